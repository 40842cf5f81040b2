"""Which way to price patterns suits a line: exactly where its numbers are small enough, else between two roundings."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from packers.static.lines.knapsack import MOST_CELLS, Knapsack, Priced
from packers.static.lines.line import Ints, Line
from packers.static.lines.triples import MOST_SIZES, Triples

COARSE_STEPS = 4096


class Pricing(Protocol):
    def price(self, values: Ints, counts: Ints, floor: int, most_patterns: int) -> Priced:
        """Patterns worth more than ``floor``. ``Priced.most`` is exact or an upper bound."""


def pricing_for(line: Line) -> Pricing:
    if int(line.sizes[-1]) * 4 > line.capacity and len(line.sizes) <= MOST_SIZES:
        return Triples(line)
    if (len(line.sizes) + 1) * (line.capacity + 1) <= MOST_CELLS:
        return Knapsack(line.sizes, line.capacity)
    return CoarseKnapsack(line, min(COARSE_STEPS, MOST_CELLS // (len(line.sizes) + 1)))


class CoarseKnapsack:
    """In units of ``capacity / steps``. Sizes rounded down give the upper bound (whatever fits, fits then), sizes
    rounded up give patterns that fit; those rounded down that happen to fit are taken, too."""

    def __init__(self, line: Line, steps: int) -> None:
        unit = -(-line.capacity // max(1, steps))
        self._line = line
        self._capacity = line.capacity // unit
        self._down, self._up = line.sizes // unit, -(-line.sizes // unit)

    def price(self, values: Ints, counts: Ints, floor: int, most_patterns: int) -> Priced:
        weightless = self._down == 0
        # What weighs nothing once rounded down is counted whole: the bound stays valid.
        loose = int((values * np.minimum(counts, self._line.capacity // self._line.sizes))[weightless].sum())
        heavy = np.where(weightless, 0, values)
        upper = Knapsack(np.maximum(self._down, 1), self._capacity).price(heavy, counts, floor, most_patterns)
        lower = Knapsack(self._up, self._capacity).price(values, counts, floor, most_patterns)
        fitting = [pattern for pattern in upper.patterns if self._line.fits(pattern)]
        return Priced(upper.most + loose, tuple(dict.fromkeys([*fitting, *lower.patterns])))
