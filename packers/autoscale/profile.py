"""What came at this time of earlier periods: a day's profile of the offered load, for forecasts."""

from __future__ import annotations

import math

BINS = 96  # a quarter of an hour each, of a day
WEIGHT = 0.3  # of the latest period; the rest from those before it


class Profile:
    """The highest offered load in each bin of the period, smoothed over periods. Knows nothing in its first period."""

    def __init__(self, period_s: float, bins: int = BINS) -> None:
        if not 0 < period_s < math.inf:
            raise ValueError(f"period_s must be above 0, got {period_s}")
        self.bin_s = period_s / bins
        self._levels: list[float | None] = [None] * bins
        self._bin: int | None = None
        self._peak = 0.0

    def add(self, now_s: float, offered: float) -> None:
        number = math.floor(now_s / self.bin_s)
        if self._bin is None:
            self._bin = number
        if number > self._bin:
            self._close()
            # A bin without a single call had no load.
            for skipped in range(self._bin + 1, min(number, self._bin + 1 + len(self._levels))):
                self._bin = skipped
                self._close()
            self._bin = number
        self._peak = max(self._peak, offered)

    def ahead(self, now_s: float, lead_s: float) -> float | None:
        """The highest load that earlier periods had between now and ``lead_s`` from now; None: not known."""
        first, last = math.floor(now_s / self.bin_s), math.floor((now_s + lead_s) / self.bin_s)
        known = [
            level
            for number in range(first, min(last, first + len(self._levels)) + 1)
            if (level := self._levels[number % len(self._levels)]) is not None
        ]
        return max(known, default=None)

    def _close(self) -> None:
        assert self._bin is not None
        place = self._bin % len(self._levels)
        before = self._levels[place]
        self._levels[place] = self._peak if before is None else before + WEIGHT * (self._peak - before)
        self._peak = 0.0
