"""From the linear program to whole bins: fix the surest patterns, solve for the rest again, step back where that cost.

As long as the fixed bins and the program's value for the rest together stay within the wanted number, nothing is lost.
A batch that breaks it is tried again at half its length; only when a single pattern does is one more bin allowed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from packers.static.lines.columns import SLACK, generate
from packers.static.lines.greedy import complete
from packers.static.lines.line import Ints, Line, Pattern, clip, take
from packers.static.lines.master import Master, Relaxed
from packers.static.lines.pricing import Pricing

ROUNDS = 20
COMPLETED = 400  # with so few items left the greedy ways are tried each time


@dataclass(frozen=True, slots=True)
class Manner:
    """How a dive goes. ``sure``: what is used this often at least is rounded up; ``step``: 1/step of the bins at least,
    at a time."""

    sure: float
    step: int


def dive(
    line: Line, master: Master, pricing: Pricing, relaxed: Relaxed, wanted: int, at_most: int, manner: Manner
) -> list[Pattern] | None:
    """The best packing met on the way to ``wanted`` bins; None if none has fewer than ``at_most``."""
    counts, fixed = line.counts, list[Pattern]()
    best: list[Pattern] | None = None
    now: Relaxed | None = relaxed
    target = wanted
    while now is not None:
        batch = _choose(master.patterns, now, counts, manner)
        now, taken = None, 0
        for length in _halves(len(batch)):
            left = _without(counts, batch[:length])
            now = _rest(line.rest(left), master, pricing, target - len(fixed) - length)
            taken = length
            if now is None or len(fixed) + length + math.ceil(now.value - SLACK) <= target:
                break
        else:
            target += 1
        if not batch or target >= at_most:
            break
        counts = _without(counts, batch[:taken])
        fixed += batch[:taken]
        if counts.sum() <= COMPLETED:
            whole = fixed + complete(line.rest(counts), ())
            if len(whole) < (at_most if best is None else len(best)):
                best = whole
            if len(whole) <= wanted or not counts.any():
                break
    return best


def _rest(rest: Line, master: Master, pricing: Pricing, enough: int) -> Relaxed | None:
    master.demand(rest.counts)
    return generate(rest, master, pricing, 0, rest.items, ROUNDS, enough=enough).relaxed


def _halves(length: int) -> Iterator[int]:
    while length > 0:
        yield length
        length //= 2


def _without(counts: Ints, patterns: list[Pattern]) -> Ints:
    left: list[int] = counts.tolist()
    for pattern in patterns:
        take(pattern, left)
    return np.array(left, np.int64)


def _choose(patterns: list[Pattern], relaxed: Relaxed, counts: Ints, manner: Manner) -> list[Pattern]:
    """Patterns to fix, the surest first, clipped to what is left: whole numbers of them, then those used most."""
    left: list[int] = counts.tolist()
    chosen: list[Pattern] = []
    used = [(amount, index) for index, amount in enumerate(relaxed.amounts) if amount > SLACK]
    for amount, index in sorted(used, key=lambda each: (-each[0], each[1])):
        for _ in range(int(amount + SLACK)):
            _fix(patterns[index], left, chosen)
    least = max(1, int(relaxed.value) // manner.step)
    if len(chosen) >= least:
        return chosen
    fractions = [(amount - math.floor(amount + SLACK), index) for amount, index in used]
    for fraction, index in sorted(fractions, key=lambda each: (-each[0], each[1])):
        if fraction < SLACK or (fraction < manner.sure and len(chosen) >= least):
            break
        if clip(patterns[index], left) == patterns[index]:
            _fix(patterns[index], left, chosen)
    return chosen


def _fix(pattern: Pattern, left: list[int], chosen: list[Pattern]) -> None:
    clipped = clip(pattern, left)
    if clipped:
        take(clipped, left)
        chosen.append(clipped)
