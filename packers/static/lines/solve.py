"""Packs a line: bounds and greedy packings first, then column generation, rounding, and repair where one bin is left.

Every step is bounded by a number of rounds or by CP-SAT's deterministic measure of work, none by the clock: the same
line is packed the same way on any machine.
"""

from __future__ import annotations

from packers.static.lines.bounds import simple_bound
from packers.static.lines.columns import SLACK, generate
from packers.static.lines.dive import Manner, dive
from packers.static.lines.greedy import best_fit_decreasing, fill_bins
from packers.static.lines.knapsack import Priced
from packers.static.lines.line import Ints, Line, Packing, Pattern
from packers.static.lines.master import Master
from packers.static.lines.pricing import pricing_for
from packers.static.lines.repair import one_fewer
from packers.static.lines.tight import tight_triples

ROUNDS = 150
BOUND_ROUNDS = 40
MANY_PATTERNS = 8000
MANNERS = (Manner(0.7, 12), Manner(0.9, 40))
REPAIRED = 2  # bins over the bound, at most, that repair is tried for


def pack_line(line: Line) -> Packing:
    """At most 11/9 of the optimum and 6/9, in practice at the bound or one bin over it."""
    at_least = simple_bound(line)
    best = best_fit_decreasing(line)
    if len(best) > at_least:
        best = min(best, fill_bins(line), key=len)
    if len(best) <= at_least:
        return Packing(tuple(best), at_least)
    tight = _by_tight_patterns(line, best, at_least)
    return Packing(tuple(tight), at_least) if tight is not None else _by_columns(line, best, at_least)


def program_bound(line: Line, at_most: int) -> int:
    """Gilmore and Gomory's bound, without a packing. ``at_most``: it need not be higher."""
    at_least = simple_bound(line)
    if at_least >= at_most or line.items == 0:
        return at_least
    master = Master(line.counts)
    master.add(best_fit_decreasing(line))
    return generate(line, master, pricing_for(line), at_least, at_most, BOUND_ROUNDS).at_least


def _by_tight_patterns(line: Line, best: list[Pattern], at_least: int) -> list[Pattern] | None:
    """None where that does not lead to the bound or a bin above it."""
    known = tight_triples(line, at_least * line.capacity - line.volume)
    if not known:
        return None
    # Where there are many, an even choice of them is mostly enough, and much faster.
    chosen = known[:: max(1, len(known) // MANY_PATTERNS)]
    master = Master(line.counts)
    master.add(chosen)
    master.add(best)
    relaxed = master.solve()
    if relaxed is not None and relaxed.value > at_least + SLACK and len(chosen) < len(known):
        master.add(known)
        relaxed = master.solve()
    if relaxed is None or relaxed.value > at_least + SLACK:
        return None
    found = dive(line, master, _NothingNew(), relaxed, at_least, len(best), MANNERS[0])
    repaired = _repaired(line, found or best, at_least, known)
    return repaired if len(repaired) <= at_least + 1 else None


def _by_columns(line: Line, best: list[Pattern], at_least: int) -> Packing:
    pricing, master = pricing_for(line), Master(line.counts)
    master.add(best)
    generated = generate(line, master, pricing, at_least, len(best), ROUNDS)
    at_least = generated.at_least
    if generated.relaxed is not None:
        for manner in MANNERS:
            if len(best) <= at_least:
                break
            found = dive(line, master, pricing, generated.relaxed, at_least, len(best), manner)
            best = best if found is None else found
        best = _repaired(line, best, at_least, master.patterns)
    return Packing(tuple(best), at_least)


def _repaired(line: Line, best: list[Pattern], at_least: int, known: list[Pattern]) -> list[Pattern]:
    while at_least < len(best) <= at_least + REPAIRED:
        fewer = one_fewer(line, best, known)
        if fewer is None:
            break
        best = fewer
    return best


class _NothingNew:
    """Pricing for a program that has all its patterns from the start."""

    def price(self, values: Ints, counts: Ints, floor: int, most_patterns: int) -> Priced:
        return Priced(0, ())
