"""The decision: from a snapshot of the world to the ordered actions that it asks for.

It is called again at every event and keeps nothing in between: what an earlier plan set going shows in the snapshot
(STARTING is coming; DRAINING, and ASLEEP with ``draining_to`` DEAD, will be gone soon). Its rules, in order:

Letting go
1. An unpinned replica of a model that is in no catalog any more is stopped once it is idle.
2. An expired replica (``packers.scaling``, rule 3) leaves its GPU, to sleep if it can (``packers.retire``).
3. A forgotten sleeping replica (``packers.scaling``, rule 4) is stopped.
4. A replica whose substitute serves is stopped, busy or not: to stop is to finish what it has first.
5. From a cordoned GPU the sleeping ones leave, and the idle ones that their models do not need. (From one that is only
   closed nobody has to: nothing new goes there, that is all.)

Who is next
6. Models without any replica that serves or starts come first: higher priority, then whoever has waited longest, then
   by id. Further replicas of models come after all of those: second ones before third ones, then in the same order.
   So growing never starves a first replica; the GPU that a first replica could not get is closed to growing ones.
   Replicas that no callers and no ``min_replicas`` ask for, only autoscaling, come after those, first ones, too.
   Substitutes for replicas on cordoned GPUs come last, by the same rules as growing.

For each replica that is missing, where its model may go at all (``packers.limits``)
7. No GPU could hold it even if empty, and there is no sleeping one: Refuse. With no GPU at all: Hold, one may join.
8. The last start failed and ``retry_at_s`` has not come: Hold.
9. A sleeping replica fits on its GPU or, if its model ``wakes_anywhere``, on another one of its node: Wake. Of several,
   the one that leaves the least free bytes.
10. A sleeping one, or one that is idle and falls asleep, fits once what leaves its GPU is gone: Hold; keep the room.
    Draining an idle replica takes a moment, any start takes longer.
11. Some GPU has room now: Start, where the placement policy says; if need be with a smaller KV cache, which still gets
    all the room there is. The sleeping one that could not be woken stays as long as nothing else needs its memory (rule
    3 ends it once the new one serves); evicting for a wake what is of use to others, while another GPU has room, would
    cost a second start later.
12. Some GPU will have room once what leaves it is gone: Hold, and keep the room, so that nobody of lower rank takes it
    and nobody else is evicted.
13. KV caches that can shrink make room: Resize, and Hold until that is done (``packers.squeeze``).
14. Otherwise evict: ``packers.verdicts`` says who may go, ``packers.room`` where, the eviction policy chooses,
    ``packers.retire`` says how. Sleep or Stop for the victims, Hold for the model; its Start or Wake comes when the
    memory is free.
15. Nobody may go: Hold, naming what is in the way and what would help.
Rules 11 to 14 are gone through without the GPUs that the model is to ``avoid`` first: where a start of it failed lately
it goes only if nothing can be done elsewhere.

With ``Policies.patience_s`` (``packers.residency.patience``) needs that have waited for too long come before all
others, and the GPU that comes closest for the first of them is kept for it: whoever may go from there goes.

When all of that is decided: rules 16 to 18, in ``packers.foresight``.

Start and Wake use only memory that is free in the ledger now, Sleep only host RAM that is: applied in order, no prefix
of a plan goes over capacity. No replica gets two actions. A Hold's words stay the same while its causes do.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field

from packers.autoscale.registry import AUTOSCALING
from packers.defrag.moves import Budget
from packers.defrag.plan import DEFRAG
from packers.draft import Draft, Outcome
from packers.eviction import EVICTION
from packers.foresight import defragment, prewarm
from packers.load import ScaleMemory
from packers.placement import RULES
from packers.residency.patience import (
    DEFAULT_PATIENCE_S,
    DEFAULT_SWAPS_PER_MINUTE,
    LEAST_SWAPS_PER_MINUTE,
    overdue,
)
from packers.residency.patience import rank as patient_rank
from packers.scaled import Answers, scaled
from packers.scaling import last_use_s
from packers.serve import serve
from packers.shelves import obstacle, sleepers_to_wake
from packers.squeeze import grow_back
from packers.state import State
from packers.trial import LOOK_AT, Trial
from packers.types import Model, ModelId, Plan, Replica, ReplicaState, Snapshot
from packers.verdicts import Need


class UnknownPolicy(ValueError):
    """A policy name that no registry has."""


@dataclass(frozen=True, slots=True)
class Policies:
    """Which policies decide, by their names in the registries. Raises UnknownPolicy, ValueError.

    ``patience_s``: a request that has waited for so long comes before all others, and what was just started stays a
    while (``packers.residency.patience``; None: neither). ``swaps_per_minute``: so often replicas are evicted from one
    GPU for others, evenly spread (None: as often as there are needs). ``prewarm``: bring models back before they are
    asked for. ``look_at``: of a cluster with more GPUs than that, so many are looked at closely at a time, the
    likeliest first.
    """

    placement: str = "ours"
    eviction: str = "ours"
    scaling: str = "demand"
    defrag: str = "none"
    defrag_budget: Budget = field(default_factory=Budget)
    patience_s: float | None = DEFAULT_PATIENCE_S
    swaps_per_minute: float | None = DEFAULT_SWAPS_PER_MINUTE
    prewarm: bool = False
    look_at: int = LOOK_AT

    def __post_init__(self) -> None:
        named: tuple[tuple[str, str, Mapping[str, object]], ...] = (
            ("placement", self.placement, RULES),
            ("eviction", self.eviction, EVICTION),
            ("scaling", self.scaling, AUTOSCALING),
            ("defrag", self.defrag, DEFRAG),
        )
        for setting, name, known in named:
            if name not in known:
                raise UnknownPolicy(
                    f"policies.{setting}: {name!r} is unknown; choose one of {', '.join(sorted(known))}"
                )
        if self.patience_s is not None and not self.patience_s >= 0:
            raise ValueError(f"policies.patience_s: a time in seconds, or None, got {self.patience_s}")
        if self.swaps_per_minute is not None and not self.swaps_per_minute >= LEAST_SWAPS_PER_MINUTE:
            least = f"a number of at least {LEAST_SWAPS_PER_MINUTE}, or None"
            raise ValueError(f"policies.swaps_per_minute: {least}, got {self.swaps_per_minute}")
        if self.look_at < 1:
            raise ValueError(f"policies.look_at: at least one GPU has to be looked at, got {self.look_at}")

    @property
    def rest_s(self) -> float:
        """From one eviction on a GPU to the next."""
        return 0.0 if self.swaps_per_minute is None else 60.0 / self.swaps_per_minute


DEFAULT_POLICIES = Policies()


def decide(snapshot: Snapshot, policies: Policies = DEFAULT_POLICIES) -> Plan:
    """What to do now, with a reason for each action.

    Raises LedgerError when the snapshot contradicts itself: replicas over capacity, on unknown GPUs, or listed twice.
    """
    return decide_on(State.of(snapshot), snapshot.id, snapshot.now_s, policies)


def decide_on(state: State, snapshot_id: str, now_s: float, policies: Policies = DEFAULT_POLICIES) -> Plan:
    """``decide(state.snapshot(snapshot_id, now_s), policies)``, without building the snapshot. Changes nothing.

    Takes as long as what there is to decide, not as long as the cluster is large.
    """
    trial = Trial(state, now_s, policies.look_at, policies.placement)
    trial.patience_s, trial.rest_s = policies.patience_s, policies.rest_s
    draft = Draft(trial, policies.eviction)
    memories = _scale(trial, policies)
    try:
        _let_go(draft)
        _bring(draft)
        if policies.defrag != "none":
            defragment(draft, DEFRAG[policies.defrag], policies.defrag_budget)
        if policies.prewarm:
            prewarm(draft)
        grow_back(draft)
    finally:
        trial.undo()
    return Plan(snapshot_id, tuple(draft.actions), memories)


def _scale(trial: Trial, policies: Policies) -> tuple[tuple[ModelId, ScaleMemory], ...]:
    """What the autoscaling policy wants, in place of what demand alone asks for."""
    if policies.scaling == "demand":
        return ()
    answers = trial.state.kept.setdefault(f"scaling/{policies.scaling}", Answers())
    found = scaled(trial.state, trial.now_s, AUTOSCALING[policies.scaling], answers)
    trial.desired = ChainMap(found.standings, trial.state.outlook.standings)
    trial.wanting, trial.due = found.wanting, found.due
    return tuple(found.memories)


def _let_go(draft: Draft) -> None:
    trial = draft.trial
    # 1.
    for replica in sorted(trial.state.orphans.values(), key=lambda one: (last_use_s(one), one.id)):
        if _settled(replica, trial) and not (replica.in_flight or replica.pinned):
            draft.stop(replica, f"{replica.model} is not in the catalog any more")
    # 2. and 3.
    for model in trial.due:
        for replica in trial.desired[model].forgotten(trial.now_s):
            draft.forget(replica)
        for replica in trial.desired[model].expired(trial.now_s):
            draft.expire(replica)
    # 4.
    for substitute in sorted(trial.index.substitutes.values(), key=lambda one: one.id):
        replaced = trial.state.replicas.get(substitute.replaces) if substitute.replaces is not None else None
        if substitute.state is ReplicaState.READY and replaced is not None and _settled(replaced, trial):
            draft.stop(replaced, f"{substitute.id} has taken the place of {replaced.id}")
    # 5.
    for replica in _on_cordoned(trial):
        desired = trial.desired.get(replica.model)
        spare = desired is not None and trial.ready(replica.model) > desired.count and not replica.in_flight
        if replica.state is ReplicaState.ASLEEP or (spare and not trial.pinned(replica)):
            draft.stop(replica, f"{replica.id} leaves {replica.gpu}, which is to be emptied")


def _settled(replica: Replica, trial: Trial) -> bool:
    return replica.state in (ReplicaState.READY, ReplicaState.ASLEEP) and replica.id not in trial.going


def _on_cordoned(trial: Trial) -> list[Replica]:
    """The settled ones, by id. Sleeping ones that are pinned stay: nobody but an operator ends them."""
    found = {one.id: one for gpu in trial.index.cordoned for one in trial.on_gpu(gpu) if _settled(one, trial)}
    return [one for _, one in sorted(found.items()) if not (one.state is ReplicaState.ASLEEP and trial.pinned(one))]


def _bring(draft: Draft) -> None:
    firsts, others = _needs(draft)
    outcomes: dict[ModelId, Outcome] = {}
    for need in firsts:
        outcomes[need.model.id] = serve(need, draft)
        if need.overdue and outcomes[need.model.id] is Outcome.BLOCKED and not draft.trial.closed:
            _besiege(need, draft)
    for need in firsts:
        if outcomes[need.model.id] is Outcome.BLOCKED and need.model.id not in draft.besieging:
            _close_to_growth(need, draft.trial)
    for need in others:
        if outcomes.get(need.model.id, Outcome.DONE) is Outcome.DONE:
            outcomes[need.model.id] = serve(need, draft)


def _needs(draft: Draft) -> tuple[list[Need], list[Need]]:
    # 6.
    trial = draft.trial
    bound_s = trial.patience_s
    firsts: list[Need] = []
    others: list[Need] = []
    for name in sorted(trial.wanting):
        model, desired = trial.models[name], trial.desired[name]
        if desired.switched_off:
            draft.hold(model, f"{model.id} is switched off: its max_replicas is {model.max_replicas}.")
        for number in range(desired.coming + 1, desired.count + 1):
            late = number == 1 and bound_s is not None and overdue(model, model.demand.oldest_wait_s, bound_s)
            asked = number <= trial.state.outlook.standings[name].count
            need = Need(model, number, desired.why, overdue=late, asked=asked)
            (firsts if number == 1 and asked else others).append(need)
    if bound_s is None:
        firsts.sort(key=lambda need: _rank(need.model))
    else:
        firsts.sort(key=lambda need: patient_rank(need.model, _waited_s(need), bound_s))
    others.sort(key=lambda need: (not need.asked, need.number, _rank(need.model)))
    return firsts, others + _substitutes(trial)


def _substitutes(trial: Trial) -> list[Need]:
    if not trial.index.cordoned:
        return []
    replaced = {one.replaces for one in trial.index.substitutes.values()}
    found = []
    for replica in _on_cordoned(trial):
        model = trial.models.get(replica.model)
        if model is not None and replica.state is ReplicaState.READY and replica.id not in replaced:
            number = trial.desired[model.id].count + 1
            found.append(Need(model, max(2, number), f"{replica.gpu} is cordoned", replica))
    return sorted(found, key=lambda need: (_rank(need.model), need.replaces.id if need.replaces else ""))


def _rank(model: Model) -> tuple[int, float, str]:
    return -model.priority, -model.demand.oldest_wait_s, model.id


def _waited_s(need: Need) -> float:
    return need.model.demand.oldest_wait_s


def _besiege(need: Need, draft: Draft) -> None:
    """For the first that has waited for too long; a group's other GPUs are left to chance."""
    trial = draft.trial
    where = trial.limits(need.model)
    closest = obstacle(need, where, trial)
    if closest is not None and need.model.retry_at_s <= trial.now_s:
        sleeper = sleepers_to_wake(need, where, trial).get(closest.gpu.id)
        draft.besiege(need, closest.gpu, sleeper)


def _close_to_growth(need: Need, trial: Trial) -> None:
    """Keep the GPU that comes closest for a waiting first replica from filling up further."""
    trial.serve(need.model)
    closest = obstacle(need, trial.limits(need.model), trial) if need.urgent else None
    if closest is not None:
        trial.close(need.model, closest.gpu.id)
