"""What is due when: a heap in which an entry can be moved without searching for it."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from math import inf
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=str)
COMPACT_FROM = 64  # entries; below that, stale ones cost nothing


class Timers(Generic[Key]):
    """Each key has at most one time (s). Times may be asked about in any order: asking takes nothing out."""

    __slots__ = ("_at_s", "_heap")

    def __init__(self) -> None:
        self._at_s: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []

    def set(self, key: Key, at_s: float | None) -> None:
        """Move ``key`` to ``at_s``; None or infinity: it has no time any more."""
        before_s = self._at_s.get(key)
        if at_s is None or at_s == inf:
            if before_s is not None:
                del self._at_s[key]
            return
        if before_s == at_s:
            return
        self._at_s[key] = at_s
        heapq.heappush(self._heap, (at_s, key))
        if len(self._heap) > COMPACT_FROM + 2 * len(self._at_s):
            self._heap = [(at_s, key) for key, at_s in self._at_s.items()]
            heapq.heapify(self._heap)

    def due(self, now_s: float) -> list[Key]:
        """The keys whose time has come at ``now_s``, in their own order."""
        if not self._heap or self._heap[0][0] > now_s:
            return []
        return sorted({key for at_s, key in self._walk(now_s) if at_s <= now_s and self._at_s.get(key) == at_s})

    def next_after(self, now_s: float) -> float | None:
        """The earliest time later than ``now_s``."""
        while self._heap and self._at_s.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)  # stale
        times = (at_s for at_s, key in self._walk(now_s) if at_s > now_s and self._at_s.get(key) == at_s)
        return min(times, default=None)

    def _walk(self, now_s: float) -> Iterator[tuple[float, Key]]:
        """Every entry up to ``now_s``, and behind each way down the first live one later than that."""
        heap, at_s = self._heap, self._at_s
        places = [0] if heap else []
        while places:
            place = places.pop()
            when_s, key = heap[place]
            yield when_s, key
            if when_s <= now_s or at_s.get(key) != when_s:
                places += [child for child in (2 * place + 1, 2 * place + 2) if child < len(heap)]
