"""How long to wait before a part that ended by itself is started again."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
HEALTHY_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class Restarts:
    """``recent``: ends since the part last stayed up for ``HEALTHY_AFTER_S``; ``total``: all of them."""

    recent: int = 0
    total: int = 0

    def after_running(self, lived_s: float) -> Restarts:
        """One more end, after ``lived_s`` of being ready (0: it did not get that far)."""
        return Restarts(recent=1 if lived_s >= HEALTHY_AFTER_S else self.recent + 1, total=self.total + 1)

    @property
    def wait_s(self) -> float:
        """None after a first end; then it doubles with every further one in a row."""
        return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (self.recent - 2)) if self.recent > 1 else 0.0
