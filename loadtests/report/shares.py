"""Intervals of shares: what never happened in 150 requests may still happen to one in 40, which no resample shows.

Wilson (J. Am. Stat. Assoc. 22, 1927), and for the difference of two Newcombe's method 10 (Stat. Med. 17, 1998), which
is rather too wide for pairs. They take requests to be independent, so they are the least that an interval is wide: the
wider end of theirs and of what blocks and passes show counts.
"""

from __future__ import annotations

import math
from dataclasses import replace

from loadtests.report.estimate import Difference, Figure

Z = 1.959963984540054  # 95% of a normal distribution lie within


def wilson(share: float, count: float) -> tuple[float, float]:
    """The 95% interval of a share that was seen in ``count`` requests, above 0."""
    whole = 1 + Z * Z / count
    middle = (share + Z * Z / (2 * count)) / whole
    half = Z / whole * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def of_share(figure: Figure, count: int) -> Figure:
    """``count``: requests of all passes."""
    if math.isnan(figure.value) or not count:
        return figure
    low, high = wilson(figure.value, count)
    return _wider(figure, low, high)


def of_shares(found: Difference, counts: tuple[int, int]) -> Difference:
    """``counts``: requests of each side."""
    if math.isnan(found.change.value) or not all(counts):
        return found
    p1, p2 = found.first.value, found.second.value
    (low1, high1), (low2, high2) = (wilson(p, count) for p, count in zip((p1, p2), counts, strict=True))
    change = found.change.value
    below, above = math.hypot(p2 - low2, high1 - p1), math.hypot(high2 - p2, p1 - low1)
    return replace(
        found,
        first=of_share(found.first, counts[0]),
        second=of_share(found.second, counts[1]),
        change=_wider(found.change, change - below, change + above, least=-1.0),
    )


def _wider(figure: Figure, low: float, high: float, least: float = 0.0) -> Figure:
    """An end that is not bounded becomes one: of a share, few requests say something too."""
    own_low, own_high = low if figure.low is None else figure.low, high if figure.high is None else figure.high
    return Figure(figure.value, max(least, min(low, own_low)), min(1.0, max(high, own_high)))
