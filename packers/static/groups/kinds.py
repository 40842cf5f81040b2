"""The nouns of packing groups: equal replicas as one kind, GPUs with two capacities on nodes, and a packing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
DIMENSIONS = 2  # memory, compute
NOBODY: frozenset[int] = frozenset()


@dataclass(frozen=True, eq=False)
class Kinds:
    """``needs[i]``: memory and compute on each of the ``spans[i]`` GPUs of one node that a replica of kind i takes;
    ``counts[i]`` replicas. ``apart[i]``: kinds that share no node with it (itself: its replicas are on different ones).
    """

    needs: Ints
    counts: Ints
    spans: Ints
    apart: tuple[frozenset[int], ...]

    @cached_property
    def volume(self) -> tuple[int, ...]:
        rows = zip(self.needs.tolist(), self.counts.tolist(), self.spans.tolist(), strict=True)
        totals = [0] * DIMENSIONS
        for need, count, span in rows:
            totals = [total + amount * count * span for total, amount in zip(totals, need, strict=True)]
        return tuple(totals)

    @cached_property
    def plain(self) -> bool:
        """Single GPUs only, and nobody keeps apart: nodes play no part."""
        return bool((self.spans == 1).all()) and self.sociable

    @cached_property
    def sociable(self) -> bool:
        """Nobody keeps apart."""
        return not any(self.apart)

    @property
    def replicas(self) -> int:
        return int(self.counts.sum())


Capacity = tuple[int, int]  # memory, compute of a GPU
NodeShape = tuple[Capacity, ...]  # its GPUs


@dataclass(slots=True)
class Held:
    """What one node holds: ``(kind, its GPUs by index)`` for each replica."""

    shape: NodeShape
    placed: list[tuple[int, tuple[int, ...]]]

    @property
    def gpus_used(self) -> int:
        return len({gpu for _, gpus in self.placed for gpu in gpus})


@dataclass(frozen=True, slots=True)
class Filled:
    """``left[i]`` replicas of kind i found no place."""

    nodes: tuple[Held, ...]
    left: tuple[int, ...]

    @property
    def complete(self) -> bool:
        return not any(self.left)

    @property
    def used(self) -> int:
        return sum(bool(node.placed) for node in self.nodes)

    @property
    def gpus_used(self) -> int:
        return sum(node.gpus_used for node in self.nodes)


def weights_of(volume: Sequence[float], capacity: Capacity, power: int) -> Floats:
    """How much each dimension counts, by how scarce it is; together 1."""
    shares = np.array([total / each if each else 0.0 for total, each in zip(volume, capacity, strict=True)]) ** power
    whole = float(shares.sum())
    return shares / whole if whole else np.full(DIMENSIONS, 1.0 / DIMENSIONS)
