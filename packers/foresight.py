"""The last rules of a decision: moves that pay, and models that are brought back before they are asked for.

16. Moves that pay, within their budget (``packers.defrag``): a Start that replaces.
17. Sleeping models that are expected back (``packers.residency.prewarm``), while no caller waits for memory and this
    plan does nothing else: Wake, or Sleep and Stop of what is worth clearly less; the Wake comes when that is gone.
    One in ``EVERY_S`` begins, and ``AT_ONCE`` are under way at most: loads that nobody asked for, and GPUs that are
    being left for nobody who waits.
18. KV caches grow back into what is left, while nobody waits: Resize (``packers.squeeze``).

All of them only touch memory that nobody else was given or promised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf

from packers.defrag.moves import Budget, Move, Way
from packers.defrag.plan import DefragPolicy, under_way_now
from packers.draft import Draft
from packers.eviction import Eviction, Shelf
from packers.limits import Limits
from packers.residency.prewarm import AT_ONCE, EVERY_S, Sleeper, returns, turnover_s
from packers.scaling import last_use_s
from packers.shelves import shelves
from packers.trial import Trial, wake_bytes
from packers.types import GpuId, Hold, Model, Refuse, Replica, ReplicaState
from packers.verdicts import Need


def defragment(draft: Draft, policy: DefragPolicy, budget: Budget) -> None:
    # 16.
    trial = draft.trial
    touched = {*trial.going, *trial.taken, *draft.replaced}
    at_once = inf if budget.at_once is None else budget.at_once - len(under_way_now(trial.state))
    for move in policy(trial.state, trial.now_s, budget, touched):
        if at_once < 1:
            return
        model = trial.models[move.model]
        trial.serve(model)
        where = trial.limits(model)  # what this very decision starts is a neighbour, too
        free = all(where.refusal(trial.gpu[gpu]) is None for gpu in move.target)
        free = free and all(trial.free_gpu(gpu) >= move.footprint.gpu_bytes for gpu in move.target)
        if free and not move.after and move.way is Way.OVERLAP and _as_its_card_says(move, model):
            draft.move(move)
            at_once -= 1


def _as_its_card_says(move: Move, model: Model) -> bool:
    """One started by an older card is not started once more as it was."""
    wish = model.footprint
    same = len(move.target) == model.tensor_parallel
    same = same and replace(move.footprint, kv_cache_bytes=wish.kv_cache_bytes, kv_min_bytes=wish.kv_min_bytes) == wish
    return same and wish.gpu_min_bytes <= move.footprint.gpu_bytes <= wish.gpu_bytes


def prewarm(draft: Draft) -> None:
    # 17.
    trial, residency = draft.trial, draft.residency
    if not (residency.barters or residency.recall is not None) or _has_better_to_do(draft):
        return
    ahead = [one for one in trial.state.replicas.values() if _ahead(one, trial)]
    under_way = len(ahead) + sum(gpu not in trial.promised for gpu in _being_cleared(trial))
    if under_way >= AT_ONCE or any(trial.now_s - one.state_since_s < EVERY_S for one in ahead):
        return
    since_s = [one.state_since_s for one in trial.state.replicas.values() if one.state is ReplicaState.READY]

    def places(sleeper: Sleeper) -> Sequence[Eviction]:
        return _places(sleeper, draft)

    back = returns(residency, _sleepers(draft), places, trial.now_s, turnover_s(since_s, trial.now_s), under_way)
    if back is not None:
        trial.serve(back.sleeper.model)
        trial.taken.add(back.sleeper.replica.id)  # it does not make room in host RAM for those that leave for it
        draft.bring_back(back)


def _has_better_to_do(draft: Draft) -> bool:
    """This plan brings or ends something, or callers wait for memory: the next decision comes soon enough."""
    models = draft.trial.models
    for action in draft.actions:
        if not isinstance(action, Hold | Refuse):
            return True
        model = models[action.model]
        waits = model.demand.present and model.max_replicas > 0 and model.retry_at_s <= draft.trial.now_s
        if isinstance(action, Hold) and waits:
            return True
    return False


def _ahead(replica: Replica, trial: Trial) -> bool:
    """It is being loaded although no caller and no ``min_replicas`` asks for it."""
    if replica.state is not ReplicaState.STARTING:
        return False
    stands = trial.state.outlook.standings.get(replica.model)
    return stands is None or not stands.count


def _being_cleared(trial: Trial) -> set[GpuId]:
    """GPUs whose memory somebody is about to leave."""
    return {gpu for one in trial.index.leaving.values() if one.state is ReplicaState.DRAINING for gpu in one.gpus}


def _places(sleeper: Sleeper, draft: Draft) -> Sequence[Eviction]:
    """Where it could wake at once, the fullest GPU first; else where room could be made, or is being made: nowhere."""
    trial, replica = draft.trial, sleeper.replica
    trial.serve(sleeper.model)
    where = trial.limits(sleeper.model)
    free = _berths(replica, where, trial)
    if free:
        _, gpu = min(free)
        shelf = Shelf(trial.gpu[gpu], wake_bytes(replica, gpu), trial.free_gpu(gpu), replica, (), trial.now_s)
        return (Eviction(shelf, (), 0.0, "there is room"),)
    found = shelves(Need(sleeper.model, 2, "it is expected back"), where, trial)
    ranked = draft.eviction([shelf for shelf in found if shelf.wakes is replica])
    return ranked if all(one.victims for one in ranked) else ()


def _berths(replica: Replica, where: Limits, trial: Trial) -> list[tuple[int, GpuId]]:
    """(free bytes that stay, GPU) of each where it could wake now."""
    found = []
    for gpus in trial.berths(replica):
        left_bytes = trial.left_after_wake(replica, gpus)
        if left_bytes is not None and where.refusal(trial.gpu[gpus[0]]) is None:
            found.append((left_bytes, gpus[0]))
    return found


def _sleepers(draft: Draft) -> list[Sleeper]:
    """Of every model on single GPUs that nothing serves, the one used last."""
    trial, found = draft.trial, []
    for name in sorted(trial.index.of_model):
        model, stands = trial.models.get(name), trial.desired.get(name)
        if model is None or stands is None or stands.coming or stands.count or model.tensor_parallel > 1:
            continue
        asleep = trial.sleepers(name)
        if asleep and model.max_replicas > 0 and model.retry_at_s <= trial.now_s:
            one = max(asleep, key=lambda replica: (last_use_s(replica), replica.id))
            found.append(Sleeper(model, one, last_use_s(one)))
    return found
