"""Where room can be made for a model by evicting those who may go (``packers.verdicts``), and what is in the way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from packers.eviction import Shelf
from packers.explain import size
from packers.guarantees import KEPT_FOR
from packers.limits import Limits
from packers.placement import CANDIDATES_SHOWN
from packers.trial import Trial, wake_bytes
from packers.types import Candidate, Gpu, GpuId, ModelId, Replica
from packers.verdicts import Need, blockers, victims


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps a model from the GPU that comes closest: ``blockers`` with why each cannot go.

    ``would_do``: the blockers after whose leaving it would fit; empty when pinned ones make that impossible.
    """

    gpu: Gpu
    blockers: tuple[tuple[Replica, str], ...]
    would_do: tuple[Replica, ...]
    promised_to: tuple[ModelId, ...]
    resting: bool = False  # nobody is evicted there for a moment


def shelves(need: Need, where: Limits, trial: Trial) -> list[Shelf]:
    """GPUs where evicting all that may go would make room for one GPU's part of the replica, by id.

    All such in a cluster of up to ``trial.look_at``; in a larger one those among the first so many, by
    ``Columns.likely``, among which there is any.
    """
    sleepers = sleepers_to_wake(need, where, trial)
    for gpus in _likely(need, sleepers, where, trial):
        found = [
            shelf
            for gpu in gpus
            if where.refusal(gpu) is None and (shelf := shelf_on(need, gpu, sleepers.get(gpu.id), trial)) is not None
        ]
        if len(found) >= need.model.tensor_parallel:
            return sorted(found, key=lambda shelf: shelf.gpu.id)
    return []


def sleepers_to_wake(need: Need, where: Limits, trial: Trial) -> dict[GpuId, Replica]:
    """Of groups none: ``packers.room`` looks at each as a whole."""
    if need.replaces is not None or need.model.tensor_parallel > 1:
        return {}
    return trial.sleepers_by_gpu(need.model, where)


def _likely(need: Need, sleepers: dict[GpuId, Replica], where: Limits, trial: Trial) -> Iterable[Sequence[Gpu]]:
    if not trial.large or need.model.tensor_parallel > 1:
        return (trial.gpus,)
    wakes = {gpu: wake_bytes(sleeper, gpu) for gpu, sleeper in sleepers.items()}
    needs_bytes = need.model.footprint.gpu_min_bytes
    likely = trial.columns.likely(needs_bytes, wakes, where, trial.closed, trial.look_at)
    # Replicas that callers use are in no column: for a need that they have to give way to, every GPU is looked at.
    return chain(likely, (trial.gpus,)) if need.overdue else likely


def shelf_on(need: Need, gpu: Gpu, sleeper: Replica | None, trial: Trial) -> Shelf | None:
    """None: even if all that may go went, there would not be room."""
    needs_bytes = bytes_needed(need, gpu, sleeper)
    if needs_bytes is None or gpu.id in trial.closed:
        return None
    free_bytes = trial.soon.gpu[gpu.id]
    if not need.overdue and free_bytes + trial.idle_bytes(gpu.id) < needs_bytes:
        return None  # only a bound, but it spares looking closely at most GPUs of a busy cluster
    may_go = [] if trial.resting(gpu.id) else victims(need, gpu, sleeper, trial)
    if free_bytes + sum([victim.frees_bytes for victim in may_go]) < needs_bytes:
        return None
    milli = need.model.footprint.compute_milli
    if milli and trial.soon.compute[gpu.id] + sum(trial.held_milli(victim.replica) for victim in may_go) < milli:
        return None
    return Shelf(gpu, needs_bytes, free_bytes, sleeper, tuple(may_go), trial.now_s)


def bytes_needed(need: Need, gpu: Gpu, sleeper: Replica | None) -> int | None:
    """GPU bytes that the needed replica takes there, by waking ``sleeper`` if there is one. None: it is too small."""
    if sleeper is not None:
        return wake_bytes(sleeper, gpu.id)
    needs_bytes = need.model.footprint.gpu_min_bytes
    return needs_bytes if needs_bytes <= gpu.memory_bytes else None


def rejected(need: Need, where: Limits, chosen: list[Shelf], trial: Trial) -> list[Candidate]:
    """A few of the GPUs where eviction would not help, and why."""
    helped = {shelf.gpu.id for shelf in chosen}
    others = list(islice((gpu for gpu in trial.gpus if gpu.id not in helped), CANDIDATES_SHOWN - len(chosen)))
    sleepers = sleepers_to_wake(need, where, trial)
    return [
        Candidate(gpu.id, trial.soon.gpu[gpu.id], rejected=_hindrance(need, where, gpu, sleepers.get(gpu.id), trial))
        for gpu in others
    ]


def obstacle(need: Need, where: Limits, trial: Trial) -> Obstacle | None:
    """Looks at the GPU that comes closest, one not barred by pinned replicas first. None when all are too small."""
    sleepers = sleepers_to_wake(need, where, trial)
    gpu = _closest(need, sleepers, where, trial)
    needs_bytes = bytes_needed(need, gpu, sleepers.get(gpu.id)) if gpu is not None else None
    if gpu is None or needs_bytes is None:
        return None
    sleeper = sleepers.get(gpu.id)
    stay = tuple(blockers(need, gpu, sleeper, trial))
    free_bytes = trial.soon.gpu[gpu.id]
    free_bytes += sum(victim.frees_bytes for victim in victims(need, gpu, sleeper, trial))
    would_do = []
    for replica, why_not in sorted(stay, key=lambda blocker: blocker[0].id):
        if free_bytes < needs_bytes and not trial.pinned(replica) and not why_not.startswith(KEPT_FOR):
            would_do.append(replica)
            free_bytes += trial.held_bytes(replica)
    fits = free_bytes >= needs_bytes
    promised_to = tuple(trial.promised.get(gpu.id, ()))
    return Obstacle(gpu, stay, tuple(would_do) if fits else (), promised_to, trial.resting(gpu.id))


def _closest(need: Need, sleepers: dict[GpuId, Replica], where: Limits, trial: Trial) -> Gpu | None:
    if trial.large:
        wakes = {gpu: wake_bytes(sleeper, gpu) for gpu, sleeper in sleepers.items()}
        return trial.columns.closest(need.model.footprint.gpu_min_bytes, wakes, where)
    ranked = []
    for gpu in trial.gpus:
        needs_bytes = bytes_needed(need, gpu, sleepers.get(gpu.id))
        if needs_bytes is not None and where.refusal(gpu) is None:
            barred = trial.pinned_bytes(gpu.id) + needs_bytes > gpu.memory_bytes
            ranked.append((barred, needs_bytes - trial.soon.gpu[gpu.id], gpu.id, gpu))
    return min(ranked)[3] if ranked else None


def _hindrance(need: Need, where: Limits, gpu: Gpu, sleeper: Replica | None, trial: Trial) -> str:
    refusal = where.refusal(gpu)
    if refusal is not None:
        return refusal
    if bytes_needed(need, gpu, sleeper) is None:
        return f"too small: {size(gpu.memory_bytes)}"
    in_the_way = [f"{replica.model} is {why_not}" for replica, why_not in blockers(need, gpu, sleeper, trial)]
    if not in_the_way and trial.resting(gpu.id):
        return "replicas were evicted there a moment ago"
    return "; ".join(dict.fromkeys(in_the_way)) or "its free memory is promised to others"
