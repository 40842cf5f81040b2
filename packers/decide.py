"""The decision: from a snapshot of the world to the ordered actions that it asks for.

It is called again at every event and keeps nothing in between: what an earlier plan set going shows in the snapshot
(STARTING is coming; DRAINING, and ASLEEP with ``draining_to`` DEAD, will be gone soon). Its rules, in order:

Letting go
1. An unpinned replica of a model that is in no catalog any more is stopped once it is idle.
2. An expired replica (``packers.scaling``, rule 3) leaves its GPU, to sleep if it can (``packers.retire``).
3. A forgotten sleeping replica (``packers.scaling``, rule 4) is stopped.

Who is next
4. Models without any replica that serves or starts come first: higher priority, then whoever has waited longest, then
   by id. Further replicas of models come after all of those: second ones before third ones, then in the same order.
   So growing never starves a first replica; the GPU that a first replica could not get is closed to growing ones.

For each replica that is missing
5. No GPU could hold it even if empty, and there is no sleeping one: Refuse. With no GPU at all: Hold, one may join.
6. The last start failed and ``retry_at_s`` has not come: Hold.
7. A sleeping replica fits on its GPU: Wake. Of several, the one that leaves the least free bytes.
8. A sleeping one, or one that is idle and falls asleep, fits once what leaves its GPU is gone: Hold, and keep the room.
   Draining an idle replica takes a moment, any start takes longer.
9. Some GPU has room now: Start, where the placement policy says. The sleeping one that could not be woken stays as
   long as nothing else needs its memory (rule 3 ends it once the new one serves); evicting for a wake what is
   of use to others, while another GPU has room, would cost a second start later.
10. Some GPU will have room once what leaves it is gone: Hold, and keep the room, so that nobody of lower rank takes it
    and nobody else is evicted.
11. Otherwise evict: ``packers.shelves`` says who may go, the eviction policy chooses, ``packers.retire`` says how.
    Sleep or Stop for the victims, Hold for the model; its Start or Wake comes when the memory is free.
12. Nobody may go: Hold, naming what is in the way and what would help.

Start and Wake use only memory that is free in the ledger now, Sleep only host RAM that is: applied in order, no prefix
of a plan goes over capacity. No replica gets two actions. A Hold's words stay the same while its causes do.
"""

from __future__ import annotations

from dataclasses import dataclass

from packers.draft import Draft, Outcome
from packers.eviction import EVICTION
from packers.placement import PLACEMENT
from packers.serve import serve
from packers.shelves import Need, obstacle
from packers.state import State
from packers.trial import Trial
from packers.types import Model, ModelId, Plan, ReplicaState, Snapshot


class UnknownPolicy(ValueError):
    """A policy name that no registry has."""


@dataclass(frozen=True, slots=True)
class Policies:
    """Which policies decide, by their names in the registries. Raises UnknownPolicy."""

    placement: str = "best-fit"
    eviction: str = "lru"

    def __post_init__(self) -> None:
        for field, name, known in (("placement", self.placement, PLACEMENT), ("eviction", self.eviction, EVICTION)):
            if name not in known:
                raise UnknownPolicy(f"policies.{field}: {name!r} is unknown; choose one of {', '.join(sorted(known))}")


DEFAULT_POLICIES = Policies()


def decide(snapshot: Snapshot, policies: Policies = DEFAULT_POLICIES) -> Plan:
    """What to do now, with a reason for each action.

    Raises LedgerError when the snapshot contradicts itself: replicas over capacity, on unknown GPUs, or listed twice.
    """
    return decide_on(State.of(snapshot), snapshot.id, snapshot.now_s, policies)


def decide_on(state: State, snapshot_id: str, now_s: float, policies: Policies = DEFAULT_POLICIES) -> Plan:
    """``decide(state.snapshot(snapshot_id, now_s), policies)``, without building the snapshot. Changes nothing."""
    snapshot = state.snapshot(snapshot_id, now_s)
    trial = Trial(snapshot)
    draft = Draft(trial, PLACEMENT[policies.placement], EVICTION[policies.eviction])
    _let_go(draft)
    firsts, others = _needs(draft)
    outcomes: dict[ModelId, Outcome] = {need.model.id: serve(need, draft) for need in firsts}
    for need in firsts:
        if outcomes[need.model.id] is Outcome.BLOCKED:
            _close_to_growth(need, trial)
    for need in others:
        if outcomes.get(need.model.id, Outcome.DONE) is Outcome.DONE:
            outcomes[need.model.id] = serve(need, draft)
    return Plan(snapshot.id, tuple(draft.actions))


def _let_go(draft: Draft) -> None:
    trial = draft.trial
    # 1.
    for replica in trial.replicas:
        settled = replica.state in (ReplicaState.READY, ReplicaState.ASLEEP) and replica.id not in trial.going
        if replica.model not in trial.models and settled and not (replica.in_flight or replica.pinned):
            draft.stop(replica, f"{replica.model} is not in the catalog any more")
    # 2. and 3.
    for model in trial.models:
        for replica in trial.desired[model].forgotten:
            draft.forget(replica)
        for replica in trial.desired[model].expired:
            draft.expire(replica)


def _needs(draft: Draft) -> tuple[list[Need], list[Need]]:
    # 4.
    trial = draft.trial
    firsts: list[Need] = []
    others: list[Need] = []
    for model in trial.models.values():
        desired = trial.desired[model.id]
        if desired.count == 0 and (model.demand.held or model.demand.operator_wake):
            draft.hold(model, f"{model.id} is switched off: its max_replicas is {model.max_replicas}.")
        for number in range(desired.coming + 1, desired.count + 1):
            (firsts if number == 1 else others).append(Need(model, number, desired.why))
    firsts.sort(key=lambda need: _rank(need.model))
    others.sort(key=lambda need: (need.number, _rank(need.model)))
    return firsts, others


def _rank(model: Model) -> tuple[int, float, str]:
    return -model.priority, -model.demand.oldest_wait_s, model.id


def _close_to_growth(need: Need, trial: Trial) -> None:
    """Keep the GPU that comes closest for a waiting first replica from filling up further."""
    closest = obstacle(need, trial) if need.urgent else None
    if closest is not None:
        trial.close(need.model, closest.gpu.id)
