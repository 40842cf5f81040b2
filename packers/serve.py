"""One missing replica: rules 5 to 12 of ``packers.decide``."""

from __future__ import annotations

from packers.draft import Draft, Outcome
from packers.explain import names
from packers.placement import Placement, no_fit
from packers.shelves import Need, Obstacle, obstacle, shelves
from packers.trial import Trial, wake_bytes
from packers.types import NoFit, Replica


def serve(need: Need, draft: Draft) -> Outcome:
    """Enter into the draft what is to be done about the missing replica."""
    return _turn_away(need, draft) or _wake(need, draft) or _start(need, draft)


def _turn_away(need: Need, draft: Draft) -> Outcome | None:
    model, trial = need.model, draft.trial
    # 5.
    largest_bytes = max((gpu.memory_bytes for gpu in trial.gpus), default=0)
    if model.footprint.gpu_bytes > largest_bytes and not trial.sleepers(model.id, falling_asleep=True):
        why = no_fit(model.id, model.footprint, trial.gpus, trial)
        if need.first and trial.gpus:
            return draft.refuse(model, why)
        draft.hold(model, why.reason, why)
        return Outcome.BLOCKED
    # 6.
    if model.retry_at_s > trial.now_s:
        draft.hold(model, f"{model.id} waits before its next start: the last one failed.")
        return Outcome.BLOCKED
    return None


def _wake(need: Need, draft: Draft) -> Outcome | None:
    trial = draft.trial
    # 7.
    fits = [one for one in trial.sleepers(need.model.id) if trial.free_gpu(one.gpu) >= wake_bytes(one)]
    if fits:
        return draft.wake(need, min(fits, key=lambda one: (trial.free_gpu(one.gpu) - wake_bytes(one), one.id)))
    # 8.
    falling = trial.sleepers(need.model.id, falling_asleep=True)
    soon = [one for one in falling if _left_soon(one, trial) >= 0]
    if not soon:
        return None
    sleeper = min(soon, key=lambda one: (_left_soon(one, trial), one.id))
    return draft.wait_to_wake(need, sleeper)


def _left_soon(sleeper: Replica, trial: Trial) -> int:
    return trial.soon.free_gpu(sleeper.gpu) - wake_bytes(sleeper)


def _start(need: Need, draft: Draft) -> Outcome:
    model, trial = need.model, draft.trial
    # 9.
    placed = draft.placement(model.footprint, trial.gpus, trial, model.id)
    if isinstance(placed, Placement):
        return draft.start(need, placed)
    # 10.
    later = draft.placement(model.footprint, trial.gpus, trial.soon, model.id)
    if isinstance(later, Placement):
        trial.promise(model, later.gpu)
        return draft.wait_for_room(need, later.gpu, placed)
    # 11.
    evictions = draft.eviction(shelves(need, trial))
    if evictions:
        return draft.evict(need, evictions, placed)
    # 12.
    draft.hold(model, _explain(placed, obstacle(need, trial)), placed)
    return Outcome.BLOCKED


def _explain(why: NoFit, closest: Obstacle | None) -> str:
    if closest is None:
        return why.reason
    gpu = closest.gpu.id
    in_the_way = names(sorted(f"{replica.model} ({reason})" for replica, reason in closest.blockers))
    sentence = f"{why.reason} In the way on {gpu}: {in_the_way}." if in_the_way else why.reason
    if closest.promised_to:
        sentence += f" Memory there is promised to {names(closest.promised_to)}."
    if closest.would_do:
        sentence += f" It would fit on {gpu} without {names(replica.model for replica in closest.would_do)}."
    return sentence
