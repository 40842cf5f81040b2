"""Gilmore and Gomory's bound by column generation, made safe against rounding after Farley.

Any prices give a bound: no bin holds items of more worth than the dearest pattern, so all items together need at least
their worth / that (Farley 1990). Prices and worths are whole numbers here, the bound is exact whatever GLOP rounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from packers.static.lines.line import Ints, Line
from packers.static.lines.master import PRICE_UNIT, Master, Relaxed
from packers.static.lines.pricing import Pricing

PER_ROUND = 200  # new patterns; more make the program slower than they help
SLACK = 1e-6  # what a linear program's value may be off


@dataclass(frozen=True, slots=True)
class Generated:
    """``at_least`` bins are needed. ``relaxed``: the last solution of the program, None if it has none."""

    at_least: int
    relaxed: Relaxed | None


def generate(
    line: Line, master: Master, pricing: Pricing, at_least: int, at_most: int, rounds: int, enough: int = 0
) -> Generated:
    """Until the bound reaches ``at_most`` or cannot rise any more, the program's value is ``enough``, or ``rounds``
    are over."""
    relaxed: Relaxed | None = None
    for _ in range(rounds):
        found = master.solve()
        if found is None:
            break
        relaxed = found
        if relaxed.value <= enough + SLACK:
            break
        prices = np.where(line.counts > 0, relaxed.prices, 0)
        priced = pricing.price(prices, line.counts, PRICE_UNIT, PER_ROUND)
        at_least = max(at_least, farley(prices, line.counts, priced.most))
        if at_least >= min(at_most, math.ceil(relaxed.value - SLACK)) or not master.add(priced.patterns):
            break
    return Generated(at_least, relaxed)


def farley(prices: Ints, counts: Ints, most: int) -> int:
    worth = sum(price * count for price, count in zip(prices.tolist(), counts.tolist(), strict=True))
    return -(-worth // most) if most > 0 else 0
