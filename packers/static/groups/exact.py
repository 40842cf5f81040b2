"""Small cases exactly: can these kinds be placed on these nodes at all? Decided by CP-SAT, within a measure of work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from packers.static.groups.kinds import Held, Kinds, NodeShape

MOST_CHOICES = 3000  # kinds times GPUs; beyond it too much work would be spent without an answer
EFFORT = 2.0  # CP-SAT's own measure, about seconds; not the clock, so that answers repeat


@dataclass(frozen=True, slots=True)
class Decided:
    """``nodes``: a way to place all; None and ``impossible`` if there is none; None alone if that stayed open."""

    nodes: tuple[Held, ...] | None = None
    impossible: bool = False


def decide(kinds: Kinds, nodes: Sequence[NodeShape], effort: float = EFFORT) -> Decided:
    if len(kinds.counts) * sum(map(len, nodes)) > MOST_CHOICES:
        return Decided()
    model = _Model(kinds, nodes)
    return model.solve(effort)


class _Model:
    """``on[k][n]``: replicas of kind k on node n; ``slices[k][n][g]``: of these, how many use its GPU g. A node's
    slices of a kind are at most its replicas on every GPU and span times these in all: then they can be dealt out."""

    def __init__(self, kinds: Kinds, nodes: Sequence[NodeShape]) -> None:
        from ortools.linear_solver import pywraplp

        # Its types are not published; what it does is tested.
        self._solver: Any = pywraplp.Solver.CreateSolver("SAT")
        self._done = (pywraplp.Solver.OPTIMAL, pywraplp.Solver.FEASIBLE)
        self._impossible = pywraplp.Solver.INFEASIBLE
        self._kinds, self._nodes = kinds, nodes
        solver, counts, spans = self._solver, kinds.counts.tolist(), kinds.spans.tolist()
        self.on = [[solver.IntVar(0, count, "") for _ in nodes] for count in counts]
        self.slices = [[[solver.IntVar(0, count, "") for _ in node] for node in nodes] for count in counts]
        for kind, count in enumerate(counts):
            solver.Add(sum(self.on[kind]) == count)
            for here, slices in zip(self.on[kind], self.slices[kind], strict=True):
                solver.Add(sum(slices) == spans[kind] * here)
                for one in slices:
                    solver.Add(one <= here)
        self._limit_capacity()
        self._keep_apart()
        self._break_symmetry()

    def _limit_capacity(self) -> None:
        for axis in (0, 1):
            needs = self._kinds.needs[:, axis]
            if not needs.any():
                continue
            unit = int(np.gcd.reduce(needs))
            scaled = (needs // unit).tolist()
            for at, node in enumerate(self._nodes):
                for gpu, capacity in enumerate(node):
                    load = sum(need * self.slices[kind][at][gpu] for kind, need in enumerate(scaled) if need)
                    self._solver.Add(load <= capacity[axis] // unit)

    def _keep_apart(self) -> None:
        counts = self._kinds.counts.tolist()
        for kind, others in enumerate(self._kinds.apart):
            for at in range(len(self._nodes) if others else 0):
                if kind in others:
                    self._solver.Add(self.on[kind][at] <= 1)
                for other in others:
                    if other > kind:
                        mine = self._solver.BoolVar("")
                        self._solver.Add(self.on[kind][at] <= counts[kind] * mine)
                        self._solver.Add(self.on[other][at] <= counts[other] * (1 - mine))

    def _break_symmetry(self) -> None:
        """Equal neighbours hold the largest kind in descending order."""
        for at, (one, other) in enumerate(zip(self._nodes, self._nodes[1:], strict=False)):
            if one == other and self.on:
                self._solver.Add(self.on[0][at] >= self.on[0][at + 1])

    def solve(self, effort: float) -> Decided:
        settings = f"num_workers:1 random_seed:1 max_deterministic_time:{effort}"
        self._solver.SetSolverSpecificParametersAsString(settings)
        status = self._solver.Solve()
        if status == self._impossible:
            return Decided(impossible=True)
        if status not in self._done:
            return Decided()
        return Decided(tuple(self._held(at, node) for at, node in enumerate(self._nodes)))

    def _held(self, at: int, node: NodeShape) -> Held:
        held = Held(node, [])
        for kind, span in enumerate(self._kinds.spans.tolist()):
            slices = [round(one.solution_value()) for one in self.slices[kind][at]]
            for _ in range(round(self.on[kind][at].solution_value())):
                # Always from the GPUs with the most slices left: then the last replica still finds its span.
                fullest = sorted(range(len(slices)), key=lambda gpu: (-slices[gpu], gpu))[:span]
                for gpu in fullest:
                    slices[gpu] -= 1
                held.placed.append((kind, tuple(sorted(fullest))))
        return held
