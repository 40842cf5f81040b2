"""The linear program over the patterns known so far: how often each is used so that all items are covered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from packers.static.lines.line import Ints, Pattern

PRICE_UNIT = 1 << 20  # prices are whole numbers of it, so that bounds made from them are exact


@dataclass(frozen=True, slots=True)
class Relaxed:
    """``amounts[i]``: how often the pattern of index i is used. ``prices``: of each size, in 1/PRICE_UNIT of a bin."""

    value: float
    amounts: tuple[float, ...]
    prices: Ints


class Master:
    """Grows by patterns; solved by GLOP, which starts from the basis of the time before."""

    def __init__(self, counts: Ints) -> None:
        from ortools.linear_solver import pywraplp

        # Its types are not published; what it does is tested.
        self._lp: Any = pywraplp.Solver.CreateSolver("GLOP")
        self._solved = pywraplp.Solver.OPTIMAL
        self._rows = [self._lp.Constraint(float(count), self._lp.infinity()) for count in counts.tolist()]
        self._objective = self._lp.Objective()
        self._objective.SetMinimization()
        self._columns: list[Any] = []
        self.patterns: list[Pattern] = []
        self._known: set[Pattern] = set()

    def add(self, patterns: Iterable[Pattern]) -> int:
        """How many of them are new."""
        before = len(self.patterns)
        for pattern in patterns:
            if pattern in self._known:
                continue
            column = self._lp.NumVar(0.0, self._lp.infinity(), "")
            self._objective.SetCoefficient(column, 1.0)
            for index, copies in pattern:
                self._rows[index].SetCoefficient(column, float(copies))
            self._known.add(pattern)
            self._columns.append(column)
            self.patterns.append(pattern)
        return len(self.patterns) - before

    def demand(self, counts: Ints) -> None:
        for row, count in zip(self._rows, counts.tolist(), strict=True):
            row.SetLb(float(count))

    def solve(self) -> Relaxed | None:
        """None where the program could not be solved, for numerical reasons: then it gives no bound and no advice."""
        if self._lp.Solve() != self._solved:
            return None
        prices = np.array([row.dual_value() for row in self._rows], np.float64)
        amounts = tuple(column.solution_value() for column in self._columns)
        whole = np.floor(np.maximum(prices, 0.0) * PRICE_UNIT).astype(np.int64)
        return Relaxed(self._objective.Value(), amounts, whole)
