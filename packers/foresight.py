"""The last rules of a decision: moves that pay, and models that are brought back before they are asked for.

16. Moves that pay, within their budget (``packers.defrag``): a Start that replaces.
17. Sleeping models that are expected back (``packers.residency.prewarm``), once nothing has changed for a second: Wake,
    or Sleep and Stop of what is worth clearly less.
18. KV caches grow back into what is left, while nobody waits: Resize (``packers.squeeze``).

All of them only touch memory that nobody else was given or promised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from packers.defrag.moves import Budget, Move, Way
from packers.defrag.plan import DefragPolicy
from packers.draft import Draft
from packers.eviction import Eviction
from packers.residency.prewarm import EVERY_S, Sleeper, returns, turnover_s
from packers.scaling import last_use_s
from packers.shelves import shelves
from packers.types import Model, ReplicaState
from packers.verdicts import Need


def defragment(draft: Draft, policy: DefragPolicy, budget: Budget) -> None:
    # 16.
    trial = draft.trial
    touched = {*trial.going, *trial.taken, *draft.replaced}
    for move in policy(trial.state, trial.now_s, budget, touched):
        model = trial.models[move.model]
        where = trial.limits(model)  # what this very decision starts is a neighbour, too
        free = all(where.refusal(trial.gpu[gpu]) is None for gpu in move.target)
        if free and not move.after and move.way is Way.OVERLAP and _as_its_card_says(move, model):
            draft.move(move)


def _as_its_card_says(move: Move, model: Model) -> bool:
    """One started by an older card is not started once more as it was."""
    wish = model.footprint
    same = len(move.target) == model.tensor_parallel
    same = same and replace(move.footprint, kv_cache_bytes=wish.kv_cache_bytes, kv_min_bytes=wish.kv_min_bytes) == wish
    return same and wish.gpu_min_bytes <= move.footprint.gpu_bytes <= wish.gpu_bytes


def prewarm(draft: Draft) -> None:
    # 17.
    trial = draft.trial
    if draft.actions or not (draft.residency.barters or draft.residency.recall is not None):
        return
    alive = [one for one in trial.state.replicas.values() if one.state is not ReplicaState.DEAD]
    if any(trial.now_s - one.state_since_s < EVERY_S for one in alive):
        return
    loading = sum(one.state is ReplicaState.STARTING for one in alive)
    since_s = [one.state_since_s for one in alive if one.state is ReplicaState.READY]
    stay_s = turnover_s(since_s, trial.now_s)

    def places(sleeper: Sleeper) -> Sequence[Eviction]:
        need = Need(sleeper.model, 2, "it is expected back")
        found = shelves(need, trial.limits(sleeper.model), trial)
        return draft.eviction([shelf for shelf in found if shelf.wakes is sleeper.replica])

    back = returns(draft.residency, _sleepers(draft), places, trial.now_s, stay_s, loading)
    if back is not None:
        draft.bring_back(back)


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
