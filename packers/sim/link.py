"""Loads that share what one node can move to its GPUs.

Each transfer gets the same share, none more than it can take; what those leave goes to the others (max-min fairness).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from packers.sim.agenda import Agenda, Kind

DONE_WITHIN_S = 1e-9  # rounding: what is this close to its end has ended


@dataclass(eq=False, slots=True)
class Transfer:
    left_bytes: float
    most_bytes_per_s: float
    done: Callable[[], None]
    bytes_per_s: float = 0.0


class Link:
    """``bytes_per_s`` 0: it limits nothing."""

    def __init__(self, agenda: Agenda, bytes_per_s: float) -> None:
        self._agenda = agenda
        self._bytes_per_s = bytes_per_s or math.inf
        self._transfers: list[Transfer] = []
        self._as_of_s = 0.0
        self._version = 0

    def send(self, size_bytes: float, most_bytes_per_s: float, done: Callable[[], None]) -> Transfer:
        """``done`` is called when all of it has arrived, at once when it takes no time."""
        transfer = Transfer(size_bytes, most_bytes_per_s, done)
        self._catch_up()
        self._transfers.append(transfer)
        self._share()
        return transfer

    def cancel(self, transfer: Transfer) -> None:
        if transfer in self._transfers:
            self._catch_up()
            self._transfers.remove(transfer)
            self._share()

    def _catch_up(self) -> None:
        passed_s = self._agenda.now_s - self._as_of_s
        self._as_of_s = self._agenda.now_s
        if passed_s > 0:
            for one in self._transfers:
                one.left_bytes -= one.bytes_per_s * passed_s if one.bytes_per_s < math.inf else one.left_bytes

    def _share(self) -> None:
        left = self._bytes_per_s
        slowest_first = sorted(self._transfers, key=lambda one: one.most_bytes_per_s)
        for place, one in enumerate(slowest_first):
            one.bytes_per_s = min(one.most_bytes_per_s, left / (len(slowest_first) - place))
            left -= one.bytes_per_s if left < math.inf else 0.0
        self._version += 1
        if self._transfers:
            version = self._version
            first_s = min(_needs_s(one) for one in self._transfers)
            self._agenda.after(first_s, Kind.FLEET, lambda: self._arrived(version))

    def _arrived(self, version: int) -> None:
        if version != self._version:
            return
        self._catch_up()
        ended = [one for one in self._transfers if _needs_s(one) <= DONE_WITHIN_S]
        self._transfers = [one for one in self._transfers if _needs_s(one) > DONE_WITHIN_S]
        self._share()
        for one in ended:
            one.done()


def _needs_s(one: Transfer) -> float:
    return max(0.0, one.left_bytes) / one.bytes_per_s
