"""Pricing where at most three items fit into a bin: all pairs with their best third, at any width of the bins."""

from __future__ import annotations

import numpy as np

from packers.static.lines.knapsack import Priced
from packers.static.lines.line import Ints, Line, Pattern

MOST_SIZES = 2500  # pairs of them are held in one table
NEVER = -(2**62)


class Triples:
    """Every size must be larger than a quarter of the capacity."""

    def __init__(self, line: Line) -> None:
        sizes, counts = line.sizes, line.counts
        kinds = len(sizes)
        row = np.arange(kinds, dtype=np.int64)
        room = line.capacity - sizes[:, None] - sizes[None, :]
        # Sizes descend: the first that fits beside the pair, and not before the pair's second (each set counts once).
        first = kinds - np.searchsorted(sizes[::-1], room.ravel(), side="right").reshape(room.shape)
        again = np.where(counts >= 2, row, row + 1)[None, :].repeat(kinds, axis=0)
        again[row, row] = np.where(counts >= 3, row, row + 1)
        self._third = np.maximum(first, again).astype(np.int32)
        allowed = (room >= 0) & (row[:, None] <= row[None, :])
        allowed[row, row] &= counts >= 2
        self._barred = ~allowed
        self._kinds = kinds

    def price(self, values: Ints, counts: Ints, floor: int, most_patterns: int) -> Priced:
        """As a knapsack does, with the counts there were at first: a pattern may hold more of a size than is left."""
        best_third, third_at = _best_from(values)
        worth = values[:, None] + values[None, :] + best_third[self._third]
        worth[self._barred] = NEVER
        second = worth.argmax(axis=1)
        total = np.maximum(worth[np.arange(self._kinds), second], values)
        patterns: list[Pattern] = []
        for first in np.argsort(-total, kind="stable")[: most_patterns + 1].tolist():
            if total[first] <= floor and patterns:
                break
            held = [first]
            if worth[first, second[first]] >= values[first]:
                held.append(int(second[first]))
                third = int(third_at[self._third[first, second[first]]])
                held += [third] if third < self._kinds and values[third] > 0 else []
            patterns.append(_pattern([index for index in held if values[index] > 0]))
        return Priced(int(total.max(initial=0)), tuple(dict.fromkeys(pattern for pattern in patterns if pattern)))


def _best_from(values: Ints) -> tuple[Ints, Ints]:
    """For every index the largest value from there on, and where it is; past the end nothing is worth 0."""
    kinds = len(values)
    best = np.zeros(kinds + 1, np.int64)
    best[:kinds] = np.maximum.accumulate(values[::-1])[::-1]
    at = np.full(kinds + 1, kinds, np.int64)
    row = np.arange(kinds, dtype=np.int64)
    at[:kinds] = np.minimum.accumulate(np.where(values == best[:kinds], row, kinds)[::-1])[::-1]
    return best, at


def _pattern(held: list[int]) -> Pattern:
    return tuple((index, held.count(index)) for index in sorted(set(held)))
