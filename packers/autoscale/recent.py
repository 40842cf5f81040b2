"""Counts that were wanted lately, as plain tuples that a ScaleMemory can carry."""

from __future__ import annotations

Counts = tuple[tuple[float, int], ...]


def highest(counts: Counts, now_s: float, count: int, window_s: float) -> tuple[int, Counts]:
    """The highest of ``count`` and those of the last ``window_s``, and what to remember: falling counts only."""
    kept = [one for one in counts if one[0] >= now_s - window_s and one[1] > count]
    kept.append((now_s, count))
    return kept[0][1], tuple(kept)


def lowest(counts: Counts, now_s: float, count: int, window_s: float) -> tuple[int, Counts]:
    """The lowest of ``count`` and those of the last ``window_s``, and what to remember: rising counts only."""
    kept = [one for one in counts if one[0] >= now_s - window_s and one[1] < count]
    kept.append((now_s, count))
    return kept[0][1], tuple(kept)
