"""How long a held request will wait, from what was measured."""

from __future__ import annotations

from dataclasses import dataclass

_NEWEST = 0.1  # the part of the newest measurement in the average
OVERDUE_PART = 0.1  # of its estimate: what a start that is overdue is taken to need yet


@dataclass(slots=True)
class Pace:
    """How fast a model's places become free. ``busy_s``: for how long a request has one, averaged; None: not known."""

    busy_s: float | None = None

    def took(self, busy_s: float) -> None:
        before = self.busy_s
        self.busy_s = busy_s if before is None else before + _NEWEST * (busy_s - before)

    def wait_s(self, ahead: float, places: int) -> float | None:
        """Until it is the turn of one with so many ``ahead``: by Little's law ``places`` are free every ``busy_s``.

        None when nothing was measured yet, or there is no place.
        """
        if self.busy_s is None or places <= 0:
            return None
        return (ahead + 1.0) * self.busy_s / places


def start_left_s(estimate_s: float, waited_s: float) -> float:
    """What is left of a start that was asked for ``waited_s`` ago; one that is overdue may be ready at any moment."""
    return max(estimate_s - waited_s, OVERDUE_PART * estimate_s)
