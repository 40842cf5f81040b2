"""Packs a few bins again into one fewer: exactly, out of all patterns known, and others beside them in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from packers.static.lines.line import Ints, Line, Pattern, clip, take

BINS = 14  # packed again at a time
TRIES = 8
EFFORT = 0.3  # in CP-SAT's own measure of work, about seconds; not the clock, so that answers repeat
MOST_COLUMNS = 6000


def one_fewer(line: Line, bins: Sequence[Pattern], known: Sequence[Pattern]) -> list[Pattern] | None:
    """The same items in one bin less, or None if that was not found."""
    by_fill = sorted(range(len(bins)), key=lambda at: (_filled(line, bins[at]), at))
    for chosen in _windows(by_fill):
        counts = np.zeros(len(line.counts), np.int64)
        for at in chosen:
            for index, copies in bins[at]:
                counts[index] += copies
        columns = [pattern for pattern in known if all(counts[index] >= copies for index, copies in pattern)]
        columns += [bins[at] for at in chosen]
        columns = list(dict.fromkeys(columns))[:MOST_COLUMNS]
        packed = cover(counts, columns, len(chosen) - 1)
        if packed is not None:
            kept = set(range(len(bins))) - set(chosen)
            return [bins[at] for at in sorted(kept)] + packed
    return None


def cover(counts: Ints, columns: Sequence[Pattern], most: int, effort: float = EFFORT) -> list[Pattern] | None:
    """At most ``most`` of the patterns that hold all items, or None if that was not found."""
    from ortools.linear_solver import pywraplp

    # Its types are not published; what it does is tested.
    solver: Any = pywraplp.Solver.CreateSolver("SAT")
    solver.SetSolverSpecificParametersAsString(f"num_workers:1 random_seed:1 max_deterministic_time:{effort}")
    infinity = solver.infinity()
    rows = {int(index): solver.Constraint(float(counts[index]), infinity) for index in np.flatnonzero(counts)}
    total = solver.Constraint(0.0, float(most))
    amounts = []
    for pattern in columns:
        upper = max(-(-int(counts[index]) // copies) for index, copies in pattern)
        amount = solver.IntVar(0, upper, "")
        total.SetCoefficient(amount, 1.0)
        for index, copies in pattern:
            rows[index].SetCoefficient(amount, float(copies))
        amounts.append(amount)
    if solver.Solve() not in (pywraplp.Solver.OPTIMAL, pywraplp.Solver.FEASIBLE):
        return None
    left: list[int] = counts.tolist()
    packed: list[Pattern] = []
    for pattern, amount in zip(columns, amounts, strict=True):
        for _ in range(round(amount.solution_value())):
            clipped = clip(pattern, left)
            if clipped:
                take(clipped, left)
                packed.append(clipped)
    return packed if not any(left) and len(packed) <= most else None


def _windows(by_fill: Sequence[int]) -> Iterator[list[int]]:
    """The emptiest bins with others beside them, evenly spread, differently each time."""
    emptiest, others = list(by_fill[:4]), list(by_fill[4:])
    for attempt in range(TRIES if others else 1):
        stride = max(1, len(others) // (BINS - len(emptiest)))
        yield emptiest + others[attempt % stride :: stride][: BINS - len(emptiest)]
        if attempt + 1 >= stride:
            break


def _filled(line: Line, pattern: Pattern) -> int:
    return sum(int(line.sizes[index]) * copies for index, copies in pattern)
