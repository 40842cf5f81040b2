"""How many GPUs are needed, and which model goes where."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from packers.static.answer import Answer, Spot
from packers.static.groups.kinds import NOBODY, Filled, Held, Kinds
from packers.static.groups.pack import Packed, pack_kinds, settle
from packers.static.lines.line import Line
from packers.static.lines.solve import pack_line
from packers.static.problem import GpuSize, Item, check_fits, ordered
from packers.types import ModelId


def pack(items: Iterable[Item], gpu: GpuSize, gpus_per_node: int = 1) -> Answer:
    """The fewest nodes of ``gpus_per_node`` such GPUs that hold all items at once, and the proof of how few it can be.

    The same for the items in any order. Raises ProblemError for an item that fits on no node.
    """
    wanted = ordered(items)
    check_fits(wanted, [(gpu,) * gpus_per_node])
    if not wanted:
        return Answer((), gpus_per_node, 0, 0, 0, 0)
    grouped = group(wanted)
    if grouped.kinds.plain:
        held, at_least = _pack_plain(grouped.kinds, gpu)
        spots = grouped.spots(held, gpus_per_node)
        nodes, nodes_at_least = (-(-gpus // gpus_per_node) for gpus in (len(held), at_least))
        return Answer(spots, gpus_per_node, nodes, nodes_at_least, len(held), at_least)
    packed = pack_kinds(grouped.kinds, (gpu.memory_bytes, gpu.compute_milli), gpus_per_node)
    used = [node for node in packed.filled.nodes if node.placed]
    return Answer(
        spots=grouped.spots(used),
        gpus_per_node=gpus_per_node,
        nodes=len(used),
        nodes_at_least=packed.nodes_at_least,
        gpus=sum(node.gpus_used for node in used),
        gpus_at_least=packed.gpus_at_least,
        by_node=True,
    )


@dataclass(frozen=True, slots=True)
class Grouped:
    """``members[i]``: the replicas that kind i stands for, as (model, number)."""

    kinds: Kinds
    members: tuple[tuple[tuple[ModelId, int], ...], ...]

    def spots(self, nodes: Sequence[Held], gpus_per_node: int = 0) -> tuple[Spot, ...]:
        """Which replica goes where. ``gpus_per_node``: the nodes given are single GPUs, to be put together."""
        waiting = [iter(members) for members in self.members]
        found: list[Spot] = []
        for at, held in enumerate(nodes):
            for kind, gpus in held.placed:
                model, replica = next(waiting[kind])
                if gpus_per_node:
                    found.append(Spot(at // gpus_per_node, (at % gpus_per_node,), model, replica))
                else:
                    found.append(Spot(at, gpus, model, replica))
        return tuple(sorted(found))


def group(items: Sequence[Item]) -> Grouped:
    """Replicas that are interchangeable become one kind; models that keep apart, or are kept apart from, stay their
    own."""
    named = {item.model for item in items}
    apart: dict[ModelId, set[ModelId]] = {item.model: set() for item in items}
    for item in items:
        for other in item.apart_from & named:
            apart[item.model].add(other)
            apart[other].add(item.model)
    members: dict[tuple[int, int, int, str], list[Item]] = {}
    for item in items:
        own = item.model if apart[item.model] else ""
        members.setdefault((-item.gpus, -item.memory_bytes, -item.compute_milli, own), []).append(item)
    keys = sorted(members)
    index = {key[3]: at for at, key in enumerate(keys) if key[3]}
    kinds = Kinds(
        needs=np.array([(-key[1], -key[2]) for key in keys], np.int64).reshape(-1, 2),
        counts=np.array([sum(item.replicas for item in members[key]) for key in keys], np.int64),
        spans=np.array([-key[0] for key in keys], np.int64),
        apart=tuple(frozenset(index[other] for other in apart[ModelId(key[3])]) if key[3] else NOBODY for key in keys),
    )
    whole = tuple(tuple((item.model, n) for item in members[key] for n in range(item.replicas)) for key in keys)
    return Grouped(kinds, whole)


def _pack_plain(kinds: Kinds, gpu: GpuSize) -> tuple[list[Held], int]:
    """Single GPUs that are nobody's neighbours: by memory alone where compute is not asked for."""
    capacity = (gpu.memory_bytes, gpu.compute_milli)
    if kinds.needs[:, 1].any() or not kinds.needs[:, 0].all():
        packed = pack_kinds(kinds, capacity, 1)
        return [node for node in packed.filled.nodes if node.placed], packed.gpus_at_least
    # Kinds are by memory, descending, and distinct: the line's sizes in the same order.
    packing = pack_line(Line.counted(kinds.needs[:, 0], kinds.counts, gpu.memory_bytes))
    held = tuple(
        Held((capacity,), [(index, (0,)) for index, copies in pattern for _ in range(copies)])
        for pattern in packing.patterns
    )
    packed = Packed(Filled(held, (0,) * len(kinds.counts)), packing.at_least, packing.at_least)
    packed = settle(kinds, (capacity,), packed)
    return [node for node in packed.filled.nodes if node.placed], packed.gpus_at_least
