"""The fewest nodes of one shape for kinds of replicas: several ways of filling them, the best of which is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import repeat

from packers.static.groups.bounds import gpus_bound, nodes_bound
from packers.static.groups.exact import decide
from packers.static.groups.filling import fill
from packers.static.groups.kinds import Capacity, Filled, Kinds, NodeShape
from packers.static.groups.mend import mend
from packers.static.groups.stock import FillManner

SQUARE, FINE, COARSE = 48, 128, 24
MOST_GUARDED = 200  # replicas: with more, trying it with less memory would take long
MOST_LESSER = 16
LOPSIDED = 1.25  # one dimension is this much scarcer: its fill decides


@dataclass(frozen=True, slots=True)
class Packed:
    filled: Filled
    gpus_at_least: int
    nodes_at_least: int

    @property
    def proved(self) -> bool:
        return self.filled.used <= self.nodes_at_least


def pack_kinds(kinds: Kinds, capacity: Capacity, per_node: int) -> Packed:
    """Every replica must fit on an empty node."""
    packed = _pack(kinds, capacity, per_node)
    if packed.proved:
        return packed
    packed = settle(kinds, (capacity,) * per_node, packed)
    if packed.proved or kinds.replicas > MOST_GUARDED:
        return packed
    # What fits into less memory fits into more: a way of filling that luckily does better there is taken here, too.
    for memory in _less_memory(kinds, capacity, per_node, packed.filled.used):
        lesser = _pack(kinds, (memory, capacity[1]), per_node)
        if lesser.nodes_at_least >= packed.filled.used:
            break
        if lesser.filled.used < packed.filled.used:
            packed = replace(packed, filled=lesser.filled)
    return packed


def _pack(kinds: Kinds, capacity: Capacity, per_node: int) -> Packed:
    gpus_at_least = gpus_bound(kinds, capacity)
    nodes_at_least = nodes_bound(kinds, capacity, per_node, gpus_at_least)
    gpus_at_least = max(gpus_at_least, nodes_at_least)  # of every node a GPU is used
    best: Filled | None = None
    for expected in (nodes_at_least, nodes_at_least + 1):
        for manner in manners(kinds, capacity):
            filled = fill(kinds, repeat((capacity,) * per_node), capacity, expected, manner)
            filled = mend(kinds, filled, nodes_at_least)
            if best is None or (filled.used, filled.gpus_used) < (best.used, best.gpus_used):
                best = filled
            if best.used <= nodes_at_least:
                return Packed(best, gpus_at_least, nodes_at_least)
        if kinds.sociable:
            break  # what is expected plays no part
    assert best is not None
    return Packed(best, gpus_at_least, nodes_at_least)


def _less_memory(kinds: Kinds, capacity: Capacity, per_node: int, nodes: int) -> Iterator[int]:
    """Multiples of a power of two, descending, down to where the volume alone asks for ``nodes`` nodes: the same ones
    for neighbouring capacities, so that an answer found for one of them counts for all above it."""
    largest = int(kinds.needs[:, 0].max(initial=0))
    least = max(largest, kinds.volume[0] // max(1, (nodes - 1) * per_node))
    step = 1 << max(0, ((capacity[0] - least) // MOST_LESSER).bit_length())
    memory = (capacity[0] - 1) // step * step
    while memory >= max(1, least):
        yield memory
        memory -= step


def settle(kinds: Kinds, shape: NodeShape, packed: Packed) -> Packed:
    """Small cases: from the bound on, each number of nodes is tried until one is found, or ruled out."""
    filled, at_least = packed.filled, packed.nodes_at_least
    while at_least < filled.used:
        decided = decide(kinds, (shape,) * at_least)
        if decided.nodes is not None:
            filled = Filled(decided.nodes, (0,) * len(kinds.counts))
        elif decided.impossible:
            at_least += 1
        else:
            break
    return Packed(filled, max(packed.gpus_at_least, at_least), at_least)


def manners(kinds: Kinds, capacity: Capacity) -> list[FillManner]:
    """The most promising first. A finer grid along the scarcer dimension, where one is."""
    memory, compute = (total / max(1, each) for total, each in zip(kinds.volume, capacity, strict=True))
    square = [FillManner((SQUARE, SQUARE)), FillManner((SQUARE, SQUARE), 2, 0.1)]
    if not kinds.plain:
        # Nodes are few against single GPUs: there is time for more ways.
        square += [FillManner((FINE, COARSE), 2, 0.2), FillManner((SQUARE, SQUARE), 1, 0.4)]
        return square
    if memory > LOPSIDED * compute:
        return [FillManner((FINE, COARSE), 2, 0.1), *square[:1]]
    if compute > LOPSIDED * memory:
        return [FillManner((COARSE, FINE), 2, 0.1), *square[:1]]
    return square
