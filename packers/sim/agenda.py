"""What will happen, in order: by time, then by kind, then in the order in which it was entered."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from enum import IntEnum


class Kind(IntEnum):
    """Of things at one instant, the earlier kinds come first: the world changes, then requests, then decisions."""

    HARDWARE = 0
    FLEET = 1
    REQUEST = 2  # a slot is free, a deadline has come
    ARRIVAL = 3  # not entered here: the trace has them
    TIMER = 4
    DECIDE = 5


class Agenda:
    """``now_s``: when the thing happens that happens now."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._heap: list[tuple[float, Kind, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, at_s: float, kind: Kind, happen: Callable[[], None]) -> None:
        """A time that has passed already means now."""
        heapq.heappush(self._heap, (max(at_s, self.now_s), kind, next(self._order), happen))

    def after(self, delay_s: float, kind: Kind, happen: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now_s + delay_s, kind, next(self._order), happen))

    @property
    def next_s(self) -> float:
        """When the next thing happens; infinity when nothing will."""
        return self._heap[0][0] if self._heap else float("inf")

    def run_before(self, at_s: float, kind: Kind) -> None:
        """Let everything happen that comes before something of ``kind`` at ``at_s``; then that is now."""
        heap = self._heap
        limit = (at_s, kind)
        while heap and heap[0][:2] < limit:
            self.now_s, _, _, happen = heapq.heappop(heap)
            happen()
        self.now_s = max(self.now_s, at_s)

    def step(self) -> bool:
        """Let the next thing happen; False when there is none."""
        if not self._heap:
            return False
        self.now_s, _, _, happen = heapq.heappop(self._heap)
        happen()
        return True
