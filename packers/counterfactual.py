"""What would have to be otherwise: "fits on n/gpu-0 if qwen sleeps: 2 s to wake it again".

Arithmetic on the memory that the State's replicas hold, GPU by GPU. No policy is asked and nothing is changed, so that
it can be worked out for every decision that is written down. It tells what is possible and at what price, not what
would be best; claims of compute and of CPU cores are left out.

1. A GPU counts where the model may go at all and which is large enough.
2. Who may leave it: everything that does not leave already, nor is of the model itself. Those that nothing keeps go
   before pinned, busy, starting and kept ones; each of these says what keeps it.
3. One that can sleep and finds host RAM sleeps, and its residue stays on the GPU; any other one stops.
4. Of those that fit, a single one that suffices goes; else as many as it takes, the largest first, and none in vain.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from packers.explain import names, size, span
from packers.ledger import host_bytes, leaving
from packers.limits import Limits, limits
from packers.state import State
from packers.types import Footprint, Gpu, GpuId, Model, ModelId, Replica, ReplicaId, ReplicaState
from packers.withheld import Withheld

LOOKED_AT = 16  # GPUs, those with the most free memory first
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Leaver:
    """Who would have to go. ``back_s``: to bring it back, out of its sleep or by a start. ``kept``: why it does not go
    by itself: pinned, busy, starting, kept by min_replicas; "" where nothing keeps it."""

    model: ModelId
    replica: ReplicaId
    sleeps: bool
    back_s: float
    kept: str = ""


@dataclass(frozen=True, slots=True)
class Alternative:
    """A GPU on which the model would fit if ``leaving`` were gone; where that is empty, once what leaves is gone."""

    gpu: GpuId
    leaving: tuple[Leaver, ...] = ()

    @property
    def back_s(self) -> float:
        """Seconds to bring back all who would go."""
        return sum(one.back_s for one in self.leaving)

    @property
    def text(self) -> str:
        """``fits on n/gpu-0 if qwen sleeps: 2.1 s to wake it again``."""
        if not self.leaving:
            return f"fits on {self.gpu} once what leaves it is gone"
        who = names(_goes(one) for one in self.leaving)
        if len(self.leaving) > 1:
            return f"fits on {self.gpu} if {who}: {span(self.back_s)} to bring them back"
        back = "wake it" if self.leaving[0].sleeps else "start it"
        return f"fits on {self.gpu} if {who}: {span(self.back_s)} to {back} again"


def alternatives(
    state: State, name: ModelId, *, without: Sequence[GpuId] = (), most: int = SHOWN
) -> tuple[Alternative, ...]:
    """Where the model would fit if others left, those who nobody keeps and who are soonest back first. ``without``:
    GPUs that are not meant. None for a model that is not there, or that spans several GPUs. Pure."""
    state.settle()
    model = state.models.get(name)
    if model is None or model.tensor_parallel > 1:
        return ()
    withheld = Withheld(state)
    withheld.keep_from(model)
    try:
        return _alternatives(model, state, withheld, without)[:most]
    finally:
        withheld.undo()


def _alternatives(model: Model, state: State, withheld: Withheld, without: Sequence[GpuId]) -> tuple[Alternative, ...]:
    where = limits(model, state.index, state.surroundings, {})
    soon = state.index.soon.gpu
    least = model.footprint.gpu_min_bytes
    # 1.
    open_ones = (
        gpu
        for gpu in state.index.order
        if gpu.memory_bytes >= least and gpu.id not in without and where.refusal(gpu) is None
    )
    nearest = heapq.nsmallest(LOOKED_AT, open_ones, key=lambda gpu: (-soon[gpu.id], gpu.id))
    found = [one for one in (_on(gpu, model, state, withheld) for gpu in nearest) if one is not None]
    found.sort(key=lambda one: (sum(bool(each.kept) for each in one.leaving), one.back_s, one.gpu))
    return tuple(found)


def never(model: Model, state: State) -> str:
    """Of a model that no GPU could hold even if empty: what would."""
    state.settle()
    where = limits(model, state.index, state.surroundings, {})
    open_ones = [gpu for gpu in state.index.order if where.refusal(gpu) is None]
    largest = max((gpu.memory_bytes for gpu in open_ones), default=0)
    least = model.footprint.gpu_min_bytes
    if not open_ones:
        return f"fits on a GPU that it may go to; now there is none: {_ruled_out(state, where)}"
    wants = f"fits on a GPU with {size(least)}; the largest that it may go to has {size(largest)}"
    without_cache = _without_cache(model.footprint)
    if without_cache < largest < least:
        wants += f", on which its KV cache may be {size(largest - without_cache)} at most"
    return wants


def _ruled_out(state: State, where: Limits) -> str:
    why = {where.refusal(gpu) or "" for gpu in state.index.order}
    return names(sorted(why)) or "there are no GPUs"


def _without_cache(footprint: Footprint) -> int:
    return footprint.weights_bytes + footprint.overhead_bytes


def _on(gpu: Gpu, model: Model, state: State, withheld: Withheld) -> Alternative | None:
    mine = [one for one in state.index.on_gpu(gpu.id) if one.model == model.id and one.state is ReplicaState.ASLEEP]
    residue = max((one.footprint.residue_bytes for one in mine if not leaving(one)), default=0)
    short = model.footprint.gpu_min_bytes - residue - state.index.soon.gpu[gpu.id]
    if short <= 0:
        return Alternative(gpu.id)
    # 2.
    may = sorted(
        _leavers(gpu, model, state, withheld), key=lambda one: (bool(one[0].kept), one[0].back_s, one[0].replica)
    )
    # 4.
    for kept in (False, True):
        single = next((one for one, frees in may if frees >= short and bool(one.kept) == kept), None)
        if single is not None:
            return Alternative(gpu.id, (single,))
        several = _several([pair for pair in may if kept or not pair[0].kept], short)
        if several:
            return Alternative(gpu.id, several)
    return None


def _several(may: Sequence[tuple[Leaver, int]], short: int) -> tuple[Leaver, ...]:
    chosen: list[tuple[Leaver, int]] = []
    for pair in sorted(may, key=lambda one: (bool(one[0].kept), -one[1], one[0].replica)):
        if sum(frees for _, frees in chosen) >= short:
            break
        chosen.append(pair)
    if sum(frees for _, frees in chosen) < short:
        return ()
    for pair in sorted(chosen, key=lambda one: (not one[0].kept, one[1])):  # none in vain
        if sum(frees for _, frees in chosen) - pair[1] >= short:
            chosen.remove(pair)
    return tuple(one for one, _ in chosen)


def _leavers(gpu: Gpu, model: Model, state: State, withheld: Withheld) -> Iterator[tuple[Leaver, int]]:
    """With the bytes that each frees for the model. Host RAM is promised to the longest unused first."""
    spare = withheld.spare(gpu.id, model)
    # 3.
    host_left = state.index.soon.host[gpu.node]
    for one in state.index.on_gpu(gpu.id):
        if leaving(one) or one.model == model.id or one.peers:
            continue
        owner = state.models.get(one.model)
        kept = _kept(one, owner, state)
        asleep = one.state is ReplicaState.ASLEEP
        sleeps = not asleep and owner is not None and owner.can_sleep and host_bytes(one) <= host_left
        if sleeps:
            host_left -= host_bytes(one)
        held = one.footprint.residue_bytes if asleep else one.footprint.gpu_bytes
        frees = held - (one.footprint.residue_bytes if sleeps else 0)
        if spare is not None:  # what its group is guaranteed stays its own
            frees = spare.frees(withheld.group(gpu.id, owner), frees)
        if frees > 0:
            startup = owner.startup if owner is not None else None
            back_s = 0.0 if startup is None else startup.host_s if sleeps else startup.disk_s
            yield Leaver(one.model, one.id, sleeps, back_s, kept), frees


def _kept(one: Replica, owner: Model | None, state: State) -> str:
    if one.pinned or (owner is not None and owner.pinned):
        return "pinned"
    if one.state is ReplicaState.STARTING:
        return "starting"
    if one.in_flight:
        return "busy"
    ready = state.index.ready.get(one.model, 0)
    if owner is not None and one.state is ReplicaState.READY and ready <= owner.min_replicas:
        return "kept by min_replicas"
    return ""


def _goes(one: Leaver) -> str:
    return f"{one.model}{f' ({one.kept})' if one.kept else ''} {'sleeps' if one.sleeps else 'stops'}"
