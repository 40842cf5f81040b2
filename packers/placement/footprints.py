"""Where a new replica goes, by the free bytes of every GPU alone: what ``decide`` asks today.

``PLACEMENT`` is the registry of such functions. best-fit keeps the largest holes whole for large models (least free
bytes stay behind); first-fit takes the first GPU by id, so that the later ones stay empty; ties go to the smaller GPU
id. The others are the Cluster's policies: each call builds a Cluster of what is free and asks a Placer, with the
footprint at hand as the only kind of ask to expect. They see no CPUs, no host RAM and no other models here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Protocol

from packers.explain import size
from packers.placement.ask import Ask, Spot
from packers.placement.cluster import Cluster, Taken
from packers.placement.mix import Mix
from packers.placement.placer import Placer
from packers.placement.rejections import CANDIDATES_SHOWN
from packers.placement.rule import Rule
from packers.placement.rules import RULES
from packers.types import Candidate, Footprint, Gpu, GpuId, ModelId, Node, NoFit

ANY_MODEL = ModelId("this model")


class Room(Protocol):
    """Whatever knows the free bytes of each GPU: a ledger, or a ledger with promises in it."""

    def free_gpu(self, gpu: GpuId) -> int: ...


@dataclass(frozen=True, slots=True)
class Placement:
    """The chosen GPU and what was looked at: the best by score, then the rejected ones that came closest."""

    gpu: GpuId
    free_bytes: int  # on that GPU, before the placement
    candidates: tuple[Candidate, ...]


PlacementPolicy = Callable[[Footprint, Sequence[Gpu], Room, ModelId], Placement | NoFit]


def best_fit(footprint: Footprint, gpus: Sequence[Gpu], room: Room, model: ModelId = ANY_MODEL) -> Placement | NoFit:
    """The GPU that keeps the least free bytes. Score: free bytes that stay."""
    needs_bytes = footprint.gpu_bytes
    scored = []
    for gpu in gpus:
        free_bytes = room.free_gpu(gpu.id)
        if free_bytes >= needs_bytes:
            scored.append((float(free_bytes - needs_bytes), gpu.id, free_bytes))
    return _choose(scored, footprint, gpus, room, model)


def first_fit(footprint: Footprint, gpus: Sequence[Gpu], room: Room, model: ModelId = ANY_MODEL) -> Placement | NoFit:
    """The first GPU by id with room. Score: its place in that order."""
    scored = []
    for place, gpu in enumerate(sorted(gpus, key=lambda gpu: gpu.id)):
        free_bytes = room.free_gpu(gpu.id)
        if free_bytes >= footprint.gpu_bytes:
            scored.append((float(place), gpu.id, free_bytes))
    return _choose(scored, footprint, gpus, room, model)


def by_rule(rule: Rule) -> PlacementPolicy:
    """The same question, answered by one of the Cluster's policies."""

    def place(footprint: Footprint, gpus: Sequence[Gpu], room: Room, model: ModelId = ANY_MODEL) -> Placement | NoFit:
        nodes = [Node(node, 0) for node in sorted({gpu.node for gpu in gpus})]
        cluster = Cluster(gpus, nodes)
        for gpu in gpus:
            used_bytes = gpu.memory_bytes - room.free_gpu(gpu.id)
            if used_bytes > 0:
                cluster.hold(Taken(gpu.node, (gpu.id,), used_bytes, 0, 0, 0))
        ask = Ask(gpu_bytes=footprint.gpu_bytes)
        spot = Placer(cluster, rule, Mix.of([ask])).place(ask, explain=True)
        if not isinstance(spot, Spot):
            return no_fit(model, footprint, gpus, room)
        return Placement(spot.gpus[0], room.free_gpu(spot.gpus[0]), spot.candidates)

    return place


PLACEMENT: dict[str, PlacementPolicy] = {
    "best-fit": best_fit,
    "dot-product": by_rule(RULES["dot-product"]),
    "fgd": by_rule(RULES["fgd"]),
    "first-fit": first_fit,
    "ours": by_rule(RULES["ours"]),
}


def _choose(
    scored: list[tuple[float, GpuId, int]], footprint: Footprint, gpus: Sequence[Gpu], room: Room, model: ModelId
) -> Placement | NoFit:
    if not scored:
        return no_fit(model, footprint, gpus, room)
    best = nsmallest(CANDIDATES_SHOWN, scored)
    shown = [Candidate(gpu, free_bytes, score=score) for score, gpu, free_bytes in best]
    if len(scored) < CANDIDATES_SHOWN:
        fitting = {gpu for _, gpu, _ in scored}
        others = [gpu for gpu in gpus if gpu.id not in fitting]
        shown += _rejected(others, footprint.gpu_bytes, room, CANDIDATES_SHOWN - len(shown))
    return Placement(best[0][1], best[0][2], tuple(shown))


def _rejected(gpus: Iterable[Gpu], needs_bytes: int, room: Room, limit: int) -> list[Candidate]:
    closest = nsmallest(limit, ((needs_bytes - room.free_gpu(gpu.id), gpu.id, gpu.memory_bytes) for gpu in gpus))
    return [
        Candidate(
            gpu,
            needs_bytes - short_bytes,
            rejected=f"too small: {size(memory_bytes)}" if memory_bytes < needs_bytes else f"{size(short_bytes)} short",
        )
        for short_bytes, gpu, memory_bytes in closest
    ]


def no_fit(model: ModelId, footprint: Footprint, gpus: Sequence[Gpu], room: Room) -> NoFit:
    """Why nothing has room now: the GPU that comes closest, or the largest one when none could ever do."""
    needs_bytes = footprint.gpu_bytes
    if not gpus:
        reason = f"{model} needs {size(needs_bytes)} of GPU memory, but there is no GPU at present."
        return NoFit(model, needs_bytes, 0, ever=False, short_bytes=needs_bytes, reason=reason)
    largest = min(gpus, key=lambda gpu: (-gpu.memory_bytes, gpu.id))
    if largest.memory_bytes < needs_bytes:
        short_bytes = needs_bytes - largest.memory_bytes
        reason = (
            f"{model} needs {size(needs_bytes)} of GPU memory, but the largest GPU ({largest.id}) has only "
            f"{size(largest.memory_bytes)}: {size(short_bytes)} short even when empty."
        )
        return NoFit(model, needs_bytes, largest.memory_bytes, False, largest.id, short_bytes, reason)
    enough = [gpu for gpu in gpus if gpu.memory_bytes >= needs_bytes]
    closest = min(enough, key=lambda gpu: (-room.free_gpu(gpu.id), gpu.id))
    free_bytes = room.free_gpu(closest.id)
    short_bytes = needs_bytes - free_bytes
    reason = (
        f"{model} needs {size(needs_bytes)} of GPU memory; {closest.id} comes closest with {size(free_bytes)} free of "
        f"{size(closest.memory_bytes)}: {size(short_bytes)} short."
    )
    return NoFit(model, needs_bytes, largest.memory_bytes, True, closest.id, short_bytes, reason)
