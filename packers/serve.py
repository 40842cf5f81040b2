"""One missing replica: rules 7 to 15 of ``packers.decide``."""

from __future__ import annotations

from dataclasses import replace

from packers.draft import Draft, Outcome
from packers.explain import names
from packers.limits import Limits
from packers.no_room import could_ever_fit
from packers.room import Clearing, clearings
from packers.shelves import Obstacle, obstacle
from packers.squeeze import squeeze
from packers.trial import Trial
from packers.types import Footprint, GpuId, Model, NoFit, Replica, ReplicaId
from packers.verdicts import Need


def serve(need: Need, draft: Draft) -> Outcome:
    """Enter into the draft what is to be done about the missing replica."""
    draft.trial.serve(need.model)
    where = draft.trial.limits(need.model)
    return _turn_away(need, where, draft) or _wake(need, where, draft) or _start(need, where, draft)


def _turn_away(need: Need, where: Limits, draft: Draft) -> Outcome | None:
    model, trial = need.model, draft.trial
    # 7.
    if not _possible(model, where, trial) and not trial.sleepers(model.id, falling_asleep=True):
        why = trial.no_room(model, model.footprint, where)
        if where.barred:  # some would hold it if it were not for guarantees, which do not go away by themselves
            why = replace(why, ever=False)
        if need.first and trial.gpus:
            return draft.refuse(model, why)
        draft.hold(model, why.reason, why)
        return Outcome.BLOCKED
    # 8.
    if model.retry_at_s > trial.now_s:
        draft.hold(model, f"{model.id} waits before its next start: the last one failed.")
        return Outcome.BLOCKED
    return None


def _possible(model: Model, where: Limits, trial: Trial) -> bool:
    footprint = model.footprint
    if where.barred:
        return could_ever_fit(model, [gpu for gpu in trial.gpus if gpu.id not in where.barred])
    if footprint.gpu_min_bytes > trial.index.largest_bytes:
        return False
    plain = model.tensor_parallel == 1 and not model.gpu_types and not footprint.compute_milli
    return plain or could_ever_fit(model, trial.gpus)


def _wake(need: Need, where: Limits, draft: Draft) -> Outcome | None:
    if need.replaces is not None:
        return None  # a move is a start: the sleeping ones have their own GPU
    trial = draft.trial
    # 9.
    found = _berths(trial.sleepers(need.model.id), where, trial)
    if found:
        _, name, gpus = min(found)
        return draft.wake(need, trial.state.replicas[name], gpus)
    # 10.
    found = _berths(trial.sleepers(need.model.id, falling_asleep=True), where, trial, soon=True)
    if not found:
        return None
    _, name, gpus = min(found)
    return draft.wait_to_wake(need, trial.state.replicas[name], gpus)


def _berths(
    sleepers: list[Replica], where: Limits, trial: Trial, soon: bool = False
) -> list[tuple[int, ReplicaId, tuple[GpuId, ...]]]:
    """(free bytes that stay, who, where) for every way to wake one."""
    found = []
    for one in sleepers:
        if trial.gpu[one.gpu].node in where.excluded:
            continue
        for gpus in trial.berths(one, soon):
            left_bytes = trial.left_after_wake(one, gpus, soon)
            if left_bytes is not None:
                found.append((left_bytes, one.id, gpus))
    return found


def _start(need: Need, where: Limits, draft: Draft) -> Outcome:
    model, trial = need.model, draft.trial
    found = _somewhere(need, where.avoiding(model.avoid), draft) if model.avoid else None
    found = found or _somewhere(need, where, draft)
    if found is not None:
        return found
    # 15.
    why = trial.no_room(model, smallest(model.footprint), where)
    draft.hold(model, _explain(why, obstacle(need, where, trial), trial), why)
    return Outcome.BLOCKED


def _somewhere(need: Need, where: Limits, draft: Draft) -> Outcome | None:
    """None: nowhere, nor can room be made."""
    model, trial = need.model, draft.trial
    least = smallest(model.footprint)
    # 11.
    for footprint in (model.footprint,) if least is model.footprint else (model.footprint, least):
        spot = trial.spot(model, footprint, where)
        if spot is not None:
            return draft.start(need, spot, where, _grown(model.footprint, spot.gpus, trial))
    # 12.
    why = trial.no_room(model, least, where)
    later = trial.spot(model, least, where, soon=True)
    if later is not None:
        trial.promise(model, later.gpus, least)
        return draft.wait_for_room(need, later.gpus, why)
    # 13.
    squeezed = squeeze(need, where, draft)
    if squeezed is not None:
        return squeezed
    # 14.
    cleared: Clearing | None = clearings(need, where, trial, draft.eviction)
    return None if cleared is None else draft.evict(need, cleared, least, why)


def smallest(footprint: Footprint) -> Footprint:
    """With the KV cache shrunk to its minimum."""
    if footprint.kv_min_bytes is None or footprint.kv_min_bytes == footprint.kv_cache_bytes:
        return footprint
    return replace(footprint, kv_cache_bytes=footprint.kv_min_bytes)


def _grown(wish: Footprint, gpus: tuple[GpuId, ...], trial: Trial) -> Footprint:
    """As much KV cache as fits there, up to the wish."""
    room_bytes = min(trial.free_gpu(gpu) for gpu in gpus)
    if room_bytes >= wish.gpu_bytes:
        return wish
    return replace(wish, kv_cache_bytes=wish.kv_cache_bytes - (wish.gpu_bytes - room_bytes))


def _explain(why: NoFit, closest: Obstacle | None, trial: Trial) -> str:
    if closest is None:
        return why.reason
    gpu = closest.gpu.id
    in_the_way = names(sorted(f"{replica.model} ({reason})" for replica, reason in closest.blockers))
    sentence = f"{why.reason} In the way on {gpu}: {in_the_way}." if in_the_way else why.reason
    if closest.promised_to:
        sentence += f" Memory there is promised to {names(closest.promised_to)}."
    if closest.resting:
        sentence += f" Replicas were evicted there a moment ago: at most {60 / trial.rest_s:g} times a minute."
    if closest.would_do:
        sentence += f" It would fit on {gpu} {trial.if_gone(closest.would_do)}."
    return sentence
