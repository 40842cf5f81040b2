"""How late the generator was, counted in buckets of 10%: exact enough for a percentile, and cheap for every read."""

from __future__ import annotations

import math

_STEP = math.log(1.1)
_SMALLEST_S = 1e-6
_BUCKETS = 220  # up to about 1,000 s


class Lateness:
    """Seconds. ``worst_s``: of all so far; ``recent_s``: since somebody last set it to 0."""

    __slots__ = ("_counts", "count", "recent_s", "worst_s")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = 0
        self.worst_s = 0.0
        self.recent_s = 0.0

    def add(self, late_s: float) -> None:
        self.count += 1
        if late_s > self.recent_s:
            self.recent_s = late_s
            if late_s > self.worst_s:
                self.worst_s = late_s
        bucket = int(math.log(late_s / _SMALLEST_S) / _STEP) + 1 if late_s > _SMALLEST_S else 0
        self._counts[bucket if bucket < _BUCKETS else -1] += 1

    def percentile_s(self, percent: float) -> float:
        """The upper edge of the bucket that holds the nearest rank; 0 when nothing was counted."""
        wanted, seen = max(1, math.ceil(percent / 100 * self.count)), 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return min(self.worst_s, _SMALLEST_S * math.exp(bucket * _STEP))
        return 0.0

    def counts(self) -> list[int]:
        """For another process to add to its own."""
        return list(self._counts)

    def merge(self, counts: list[int], worst_s: float) -> None:
        self._counts = [mine + theirs for mine, theirs in zip(self._counts, counts, strict=True)]
        self.count += sum(counts)
        self.worst_s = max(self.worst_s, worst_s)
