"""The fewest nodes of one shape for kinds of replicas: several ways of filling them, the best of which is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import repeat

from packers.static.groups.bounds import gpus_bound, line_of, nodes_bound
from packers.static.groups.exact import decide
from packers.static.groups.filling import fill
from packers.static.groups.kinds import Capacity, Filled, Kinds, NodeShape
from packers.static.groups.mend import mend
from packers.static.groups.stock import FillManner
from packers.static.lines.solve import program_bound

SQUARE, EVEN, FINE, COARSE = 48, 64, 128, 24
MOST_GUARDED = 200  # replicas: with more, trying it with less memory would take long
MOST_LESSER = 16
MOST_PROGRAMMED = 3000  # replicas
CLOSE = 0.003  # to the bound: where thousands are packed, no third way is tried


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
    best: Filled | None = None
    for tried, (expected, manner) in enumerate(_ways(kinds, capacity, nodes_at_least), start=1):
        filled = fill(kinds, repeat((capacity,) * per_node), capacity, expected, manner)
        filled = mend(kinds, filled, nodes_at_least)
        if best is None and filled.used > nodes_at_least and kinds.replicas <= MOST_PROGRAMMED:
            # Only now is the dearer bound worth its time.
            gpus_at_least = max(gpus_at_least, _program_bound(kinds, capacity, filled.used * per_node))
            nodes_at_least = max(nodes_at_least, -(-gpus_at_least // per_node))
        if best is None or (filled.used, filled.gpus_used) < (best.used, best.gpus_used):
            best = filled
        if best.used <= nodes_at_least * (1 + CLOSE * (tried >= 2 and kinds.plain)):
            break
    assert best is not None
    return Packed(best, max(gpus_at_least, nodes_at_least), nodes_at_least)  # of every node a GPU is used


def _ways(kinds: Kinds, capacity: Capacity, nodes_at_least: int) -> Iterator[tuple[int, FillManner]]:
    """How many nodes are expected to do, and how they are filled."""
    for expected in (nodes_at_least, nodes_at_least + 1):
        for manner in manners(kinds, capacity):
            yield expected, manner
        if kinds.sociable:
            return  # what is expected plays no part


def _program_bound(kinds: Kinds, capacity: Capacity, at_most: int) -> int:
    """Slices as if they were free to go anywhere, by memory alone and by compute alone."""
    axes = [axis for axis in (0, 1) if capacity[axis] and kinds.needs[:, axis].any()]
    return max((program_bound(line_of(kinds, axis, capacity[axis]), at_most) for axis in axes), default=0)


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
    """The most promising first: a fine grid along the scarcer dimension, then an even one."""
    memory, compute = (total / max(1, each) for total, each in zip(kinds.volume, capacity, strict=True))
    along = (FINE, COARSE) if memory >= compute else (COARSE, FINE)
    even = FillManner((EVEN, EVEN), 3, 0.2)
    if kinds.plain:
        return [FillManner(along, 2, 0.1), even, FillManner((SQUARE, SQUARE), 2, 0.1)]
    # Nodes are few against single GPUs: there is time for more ways.
    return [FillManner((SQUARE, SQUARE)), FillManner(along, 2, 0.2), even, FillManner((SQUARE, SQUARE), 1, 0.4)]
