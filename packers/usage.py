"""What is known of a model's past requests, for residency: which models to keep, evict and bring back.

Everything follows from the arrivals alone, costs a constant time per arrival and needs no clock of its own:

- ``centres_s``: mean arrival times, over about the last 4, 16, 64 and 256 arrivals each. ``n / (now - centre)`` is a
  rate per second over that many arrivals, whatever their scale in time (compare LRU-K: O'Neil et al., SIGMOD 1993).
- ``gaps``: how many gaps between arrivals were how long, by half octaves from a quarter of a second up.
- ``burst``: requests within ``BURST_S`` from the one that begins a burst, on average.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log2

SPANS = (4, 16, 64, 256)  # arrivals
SHORTEST_GAP_S = 0.25  # all shorter gaps count alike
BINS = 48  # half octaves: the last one begins at 2.4 million seconds
MOST_GAPS = 1000  # then all counts are halved, so that old habits fade
BURST_S = 10.0
BURST_MEMORY = 10  # bursts
DECAY_S = 900.0
PRIOR_S = 600.0  # a model counts as used once, so long before the first time that anybody looked


@dataclass(frozen=True, slots=True)
class Usage:
    """As of the last change. Times in seconds of the caller's clock.

    ``rate_per_s``: exponentially decayed over ``DECAY_S``, as of ``last_s``. Tuples are empty before any arrival.
    """

    arrivals: int = 0
    last_s: float = 0.0
    centres_s: tuple[float, ...] = ()
    gaps: tuple[float, ...] = ()
    burst: float = 1.0
    rate_per_s: float = 0.0

    def decayed_per_s(self, now_s: float) -> float:
        return self.rate_per_s * exp(-max(0.0, now_s - self.last_s) / DECAY_S)


UNUSED = Usage()


def gap_bin(gap_s: float) -> int:
    if gap_s < SHORTEST_GAP_S:
        return 0
    return min(BINS - 1, int(2.0 * log2(gap_s / SHORTEST_GAP_S)) + 1)


def bin_start_s(place: int) -> float:
    """The shortest gap that ``gap_bin`` puts there."""
    return SHORTEST_GAP_S * 2.0 ** ((place - 1) / 2.0) if place > 0 else 0.0


class UsageTracker:
    """Of one model. Owned by whoever owns the loop; ``watched_since_s``: when it began to look."""

    __slots__ = (
        "_arrivals",
        "_burst",
        "_burst_began_s",
        "_burst_size",
        "_bursts",
        "_centres",
        "_gaps",
        "_gaps_seen",
        "_last_s",
        "_rate",
        "_usage",
    )

    def __init__(self, watched_since_s: float = 0.0) -> None:
        self._arrivals = 0
        self._last_s = watched_since_s
        self._centres = [watched_since_s - PRIOR_S] * len(SPANS)
        self._gaps = [0.0] * BINS
        self._gaps_seen = 0.0
        self._rate = 0.0
        self._burst, self._bursts, self._burst_size = 1.0, 0, 0
        self._burst_began_s = -BURST_S
        self._usage: Usage | None = UNUSED

    @classmethod
    def of(cls, usage: Usage, now_s: float) -> UsageTracker:
        """Goes on where another one stopped (what it saw of the burst that was under way is forgotten)."""
        tracker = cls(now_s)
        if usage.arrivals:
            tracker._arrivals, tracker._last_s = usage.arrivals, usage.last_s
            tracker._centres = list(usage.centres_s) or tracker._centres
            tracker._gaps = list(usage.gaps) or tracker._gaps
            tracker._gaps_seen = sum(tracker._gaps)
            tracker._rate, tracker._burst = usage.rate_per_s, usage.burst
            tracker._bursts = BURST_MEMORY if usage.burst > 1 else 0
            tracker._usage = usage
        return tracker

    def arrive(self, now_s: float, count: int = 1) -> None:
        """``count`` requests at once. A time before the last one counts as the last one."""
        gap_s = now_s - self._last_s
        if gap_s < 0.0:
            now_s, gap_s = self._last_s, 0.0
        for _ in range(count):
            if self._arrivals:
                self._note_gap(gap_s)
            seen = self._arrivals + 2  # the prior counts as one
            centres = self._centres
            for place, span in enumerate(SPANS):
                centres[place] += (now_s - centres[place]) / (span if span < seen else seen)
            self._rate = self._rate * exp(-gap_s / DECAY_S) + 1.0 / DECAY_S
            if now_s - self._burst_began_s > BURST_S or not self._arrivals:
                self._end_burst(now_s)
            self._burst_size += 1
            self._arrivals += 1
            self._last_s = now_s
            gap_s = 0.0
        self._usage = None

    def usage(self, now_s: float) -> Usage:
        """``now_s`` is not needed for anything yet: all that is known is as of the last arrival."""
        if self._usage is None:
            centres, gaps = tuple(self._centres), tuple(self._gaps)
            self._usage = Usage(self._arrivals, self._last_s, centres, gaps, self._burst, self._rate)
        return self._usage

    def _note_gap(self, gap_s: float) -> None:
        place = 0 if gap_s < SHORTEST_GAP_S else min(BINS - 1, int(2.0 * log2(gap_s / SHORTEST_GAP_S)) + 1)
        self._gaps[place] += 1.0
        self._gaps_seen += 1.0
        if self._gaps_seen >= MOST_GAPS:
            self._gaps = [gaps / 2.0 for gaps in self._gaps]
            self._gaps_seen /= 2.0

    def _end_burst(self, now_s: float) -> None:
        if self._burst_size:
            self._bursts += 1
            self._burst += (self._burst_size - self._burst) / min(self._bursts, BURST_MEMORY)
        self._burst_began_s, self._burst_size = now_s, 0
