"""What is left to place, in the order and with the numbers that filling a node asks for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from packers.static.groups.kinds import Capacity, Floats, Ints, Kinds, weights_of
from packers.static.groups.outlook import Grid, outlook


@dataclass(frozen=True, slots=True)
class FillManner:
    """How nodes are filled. ``steps``: of the look-ahead's grid, along memory and compute. ``power``: how strongly the
    scarcer dimension counts. ``eager``: by how much a replica now is worth more than the same promised later.
    """

    steps: tuple[int, int]
    power: int = 1
    eager: float = 0.05


LOOKS = 48  # at what is left, while all of it is placed
LEAST_FILLED = 60  # GPUs between two looks
PRESSURE = 1.0


class Stock:
    """``left`` is by kind; the other arrays hold the kinds still left when it was last refreshed, by memory."""

    def __init__(self, kinds: Kinds, largest: Capacity, manner: FillManner) -> None:
        self.kinds = kinds
        self.left: Ints = kinds.counts.copy()
        self._largest = largest
        self._manner = manner
        self._grid = Grid(manner.steps, largest)
        self._scale = [manner.steps[axis] / max(1, largest[axis]) for axis in (0, 1)]
        self._shares = kinds.needs / np.maximum(1, np.array(largest))
        self._selfish = np.array([kind in others for kind, others in enumerate(kinds.apart)], bool)
        slices = self._shares * (kinds.counts * kinds.spans)[:, None]
        self.refresh_after = max(LEAST_FILLED, int(slices.sum(axis=0).max(initial=0.0)) // LOOKS)
        self.refresh()

    def refresh(self) -> None:
        needs, spans = self.kinds.needs, self.kinds.spans
        volume = (self._shares * (self.left * spans)[:, None]).sum(axis=0)
        weights = weights_of(volume.tolist(), (1, 1), self._manner.power)
        self.worth: Floats = self._shares @ weights
        live = np.flatnonzero(self.left > 0)
        live = live[np.lexsort((needs[live, 1], needs[live, 0]))]
        self._table = outlook(self._grid, needs[live], self.worth[live])
        self.singles = live[spans[live] == 1]
        self.groups = live[spans[live] > 1]
        self.memory, self.compute = needs[self.singles, 0].copy(), needs[self.singles, 1].copy()
        self.eagerness: Floats = np.full(len(self.left), 1 + self._manner.eager)
        self.single_worth = self.worth[self.singles] * (1 + self._manner.eager)
        self.hardest: list[int] = self.singles[np.argsort(-self.worth[self.singles], kind="stable")].tolist()
        self._next = 0

    def press(self, nodes_left: int) -> None:
        """What has to go to most of the nodes left is worth more now than later."""
        if self._selfish.any():
            pressure = np.minimum(1.0, self.left / max(1, nodes_left)) * self._selfish
            self.eagerness = 1 + self._manner.eager + PRESSURE * pressure
            self.single_worth = (self.worth * self.eagerness)[self.singles]

    def take(self, kind: int) -> None:
        self.left[kind] -= 1

    def hard_singles(self) -> list[int]:
        """Kinds of single GPUs, the hardest to place first; some of them may have run out."""
        while self._next < len(self.hardest) and self.left[self.hardest[self._next]] == 0:
            self._next += 1
        return self.hardest[self._next :]

    def best_single(self, memory: int, compute: int, barred: Ints | None) -> int | None:
        """Of what fits into a free part the kind that makes most of it, with what may still go beside it."""
        end = int(np.searchsorted(self.memory, memory, side="right"))
        fits = (self.compute[:end] <= compute) & (self.left[self.singles[:end]] > 0)
        if barred is not None:
            fits &= barred[self.singles[:end]] == 0
        found = np.flatnonzero(fits)
        if len(found) == 0:
            return None
        later = self.later(memory - self.memory[found], compute - self.compute[found])
        return int(self.singles[found[int((self.single_worth[found] + later).argmax())]])

    def later(self, memory: Ints, compute: Ints) -> Floats:
        """What free parts are still good for."""
        rows = (memory * self._scale[0]).astype(np.intp)
        columns = (compute * self._scale[1]).astype(np.intp)
        table: Floats = self._table[rows, columns]
        return table

    def best_group(self, free: Ints, barred: Ints | None) -> tuple[int, tuple[int, ...]] | None:
        """The tensor-parallel kind that suits a node best, and the GPUs for it: those that it leaves least on."""
        kinds = self.groups[self.left[self.groups] > 0]
        if barred is not None:
            kinds = kinds[barred[kinds] == 0]
        if len(kinds) == 0:
            return None
        order = np.lexsort((free[:, 1], free[:, 0]))
        needs, spans = self.kinds.needs[kinds], self.kinds.spans[kinds]
        fits = (needs[:, None, :] <= free[order][None, :, :]).all(axis=2)
        rank = fits.cumsum(axis=1)
        possible = rank[:, -1] >= spans
        if not possible.any():
            return None
        chosen = fits & (rank <= spans[:, None])
        after = np.where(chosen[:, :, None], free[order][None, :, :] - needs[:, None, :], 0)
        later = (self.later(after[:, :, 0], after[:, :, 1]) * chosen).sum(axis=1)
        score = np.where(possible, self.worth[kinds] * self.eagerness[kinds] * spans + later, -1.0)
        if bool((free == free[0]).all()):  # an empty node begins with what is hardest to place
            score = np.where(possible, self.worth[kinds] * spans, -1.0)
        at = int(score.argmax())
        return int(kinds[at]), tuple(sorted(order[chosen[at]].tolist()))
