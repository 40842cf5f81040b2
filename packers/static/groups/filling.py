"""Fills one node after the other: tensor-parallel groups first, then each GPU with whatever makes most of its rest."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from packers.static.groups.kinds import Filled, Held, Ints, Kinds, NodeShape
from packers.static.groups.stock import FillManner, Stock


def fill(
    kinds: Kinds, nodes: Iterable[NodeShape], largest: tuple[int, int], expected: int, manner: FillManner
) -> Filled:
    """``largest``: capacities of the largest GPU. ``expected``: nodes that will do; replicas of a kind that keeps apart
    from itself go to every node once there are as many as nodes are left of these."""
    stock = Stock(kinds, largest, manner)
    held: list[Held] = []
    since = 0
    for shape in nodes:
        if not stock.left.any():
            break
        if since >= stock.refresh_after:
            stock.refresh()
            since = 0
        stock.press(expected - len(held))
        held.append(_Node(stock, shape).fill(expected - len(held)))
        since += len(shape)
    return Filled(tuple(held), tuple(stock.left.tolist()))


class _Node:
    def __init__(self, stock: Stock, shape: NodeShape) -> None:
        self._stock = stock
        self._free: Ints = np.array(shape, np.int64)
        self._held = Held(shape, [])
        # Counts what keeps each kind away; None where no kind keeps apart from another.
        kinds = stock.kinds
        self._barred: Ints | None = None if kinds.sociable else np.zeros(len(kinds.counts), np.int64)

    def fill(self, nodes_left: int) -> Held:
        """1. What has to be on every node from here on. 2. Groups. 3. Single GPUs, the fullest first."""
        if self._barred is not None:
            for kind in self._urgent(nodes_left):
                self._place_anywhere(kind)
        while (found := self._stock.best_group(self._free, self._barred)) is not None:
            self._place(*found)
        for gpu in np.lexsort((self._free[:, 1], self._free[:, 0])).tolist():
            self._fill_gpu(gpu)
        return self._held

    def _fill_gpu(self, gpu: int) -> None:
        # An empty GPU begins with what is hardest to place.
        if bool((self._free[gpu] == self._held.shape[gpu]).all()):
            first = next((kind for kind in self._stock.hard_singles() if self._may(kind, gpu)), None)
            if first is None:
                return
            self._place(first, (gpu,))
        while True:
            memory, compute = self._free[gpu].tolist()
            kind = self._stock.best_single(memory, compute, self._barred)
            if kind is None:
                return
            self._place(kind, (gpu,))

    def _urgent(self, nodes_left: int) -> list[int]:
        kinds, left = self._stock.kinds, self._stock.left
        found = np.flatnonzero((left >= max(1, nodes_left)) & (left > 0))
        return [kind for kind in found.tolist() if kind in kinds.apart[kind]]

    def _place_anywhere(self, kind: int) -> None:
        fits = [gpu for gpu in range(len(self._free)) if self._fits(kind, gpu)]
        span = int(self._stock.kinds.spans[kind])
        if len(fits) >= span and self._barred is not None and self._barred[kind] == 0:
            fullest = sorted(fits, key=lambda gpu: (*self._free[gpu].tolist(), gpu))
            self._place(kind, tuple(sorted(fullest[:span])))

    def _may(self, kind: int, gpu: int) -> bool:
        if self._stock.left[kind] == 0 or (self._barred is not None and self._barred[kind] > 0):
            return False
        return self._fits(kind, gpu)

    def _fits(self, kind: int, gpu: int) -> bool:
        return bool((self._stock.kinds.needs[kind] <= self._free[gpu]).all())

    def _place(self, kind: int, gpus: tuple[int, ...]) -> None:
        self._stock.take(kind)
        self._free[list(gpus)] -= self._stock.kinds.needs[kind]
        self._held.placed.append((kind, gpus))
        if self._barred is not None:
            for other in self._stock.kinds.apart[kind]:
                self._barred[other] += 1
