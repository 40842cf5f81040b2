"""Who may be evicted for whom. These rules hold whatever the eviction policy is.

A replica may be evicted for a needing model unless
1. it is pinned, or its model is;
2. it is busy (requests in flight), starting, on its way out already, or woken or resized by this very decision;
3. it is ready and its model has demand that it is wanted for. Beyond the number of replicas that the demand asks for,
   an idle one may go, but only for another model's first replica;
4. it is ready and without it its model would have fewer than ``min_replicas``, or, for a replica that no callers ask
   for, fewer than autoscaling wishes for; unless the needing model has strictly higher priority. What is wished for
   never comes before what callers need;
5. it has higher priority than the needing model, unless callers of that model are waiting and it has no replica at
   all: an idle replica, however important, does not keep a request waiting. Priority then only says who goes first;
6. it is asleep and its model is about to wake it. It may go all the same when callers of the needing model are
   waiting and it has no replica at all: two sleeping models must not block each other for good;
7. it is ready and of the needing model itself;
8. it holds no more than is guaranteed to its group on that GPU, and the needing model is not in that group: what it
   gave back would be its group's (``packers.guarantees``). Of more than that, only the rest is to be had;
9. with ``Policies.patience_s``: it is ready, but not for as long as its start took, or has not served yet, unless
   the need is overdue (``packers.residency.patience``): no swap storms, and nobody waits for ever;
10. if the need is overdue, 2. and 3. do not keep one that callers use once it has had its turn. It goes after all that
    may go by the other rules, and finishes what it has; ``min_replicas`` keeps it as in 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from packers.eviction import Harm, Victim
from packers.guarantees import KEPT_FOR
from packers.residency.patience import had_turn, settled
from packers.scaling import last_use_s, stay_s
from packers.trial import Trial
from packers.types import Gpu, Model, ModelId, Replica, ReplicaState


@dataclass(frozen=True, slots=True)
class Need:
    """One replica that a model lacks. ``number`` counts from 1: the first one ends the waiting, more share the load.

    ``replaces``: one that has to leave its GPU and goes once this one serves.
    ``first``: nothing serves yet. ``urgent``: and somebody waits. ``asked``: callers or ``min_replicas`` ask for it,
    not just autoscaling.
    """

    model: Model
    number: int
    why: str
    replaces: Replica | None = None
    overdue: bool = False
    asked: bool = True
    first: bool = field(init=False)
    urgent: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", self.number == 1)
        object.__setattr__(self, "urgent", self.number == 1 and self.model.demand.present)

    @property
    def called(self) -> bool:
        """Callers ask for it."""
        return self.asked and self.model.demand.present


def victims(need: Need, gpu: Gpu, sleeper: Replica | None, trial: Trial) -> list[Victim]:
    """Who may go from there, longest unused first. ``sleeper``: the one that would wake there for ``need``."""
    spare: dict[ModelId, int] = {}
    going, taken, resized, models = trial.going, trial.taken, trial.resized, trial.models
    found: list[Victim] = []
    others = trial.spare(gpu.id, need.model)
    may_go = trial.idle_on(gpu.id)
    if need.overdue:
        may_go = [*may_go, *_busy_on(gpu, trial)]
    for replica, frees_bytes, used_s in may_go:
        if replica is sleeper or replica.id in going or replica.id in taken or replica.id in resized:
            continue
        model = models.get(replica.model)
        why_not, harm = _judge_idle(need, replica, model, spare, trial)
        if why_not is None and others is not None:
            frees_bytes = others.frees(trial.group(gpu.id, replica), frees_bytes)
        if why_not is None and frees_bytes:
            asleep = replica.state is ReplicaState.ASLEEP
            priority = replica.priority if model is None else model.priority
            found.append(Victim(replica, asleep, frees_bytes, used_s, priority, harm, model))
    return found


def blockers(need: Need, gpu: Gpu, sleeper: Replica | None, trial: Trial) -> Iterator[tuple[Replica, str]]:
    """Who may not, longest unused first, and why."""
    spare: dict[ModelId, int] = {}
    others = trial.spare(gpu.id, need.model)
    for replica in trial.on_gpu(gpu.id):
        if replica is sleeper or replica.id in trial.going or not trial.held_bytes(replica):
            continue
        model = trial.models.get(replica.model)
        why_not = _stuck(need, replica, trial) or _judge_idle(need, replica, model, spare, trial)[0]
        group = trial.group(gpu.id, replica) if others is not None and why_not is None else None
        if others is not None and group is not None and not others.frees(group, trial.held_bytes(replica)):
            why_not = f"{KEPT_FOR}{group}"
        if why_not is not None:
            yield replica, why_not


def _busy_on(gpu: Gpu, trial: Trial) -> list[tuple[Replica, int, float]]:
    return [
        (one, trial.held_bytes(one), last_use_s(one))
        for one in trial.on_gpu(gpu.id)
        if one.in_flight and one.state is ReplicaState.READY and not trial.pinned(one)
    ]


def _stuck(need: Need, replica: Replica, trial: Trial) -> str | None:
    # 1. and 2.
    if trial.pinned(replica):
        return "pinned"
    if replica.state is ReplicaState.STARTING or replica.id in trial.taken:
        return "starting"
    if replica.id in trial.resized:
        return "resizing"
    yields = need.overdue and replica.state is ReplicaState.READY
    return "busy" if replica.in_flight and not yields else None


def _judge_idle(
    need: Need, replica: Replica, model: Model | None, spare: dict[ModelId, int], trial: Trial
) -> tuple[str | None, Harm]:
    # 5.
    if not need.urgent and trial.priority(replica) > need.model.priority:
        return "of higher priority", Harm.NONE
    if replica.state is ReplicaState.ASLEEP:
        return _judge_sleeper(need, replica, trial)
    return _judge_ready(need, replica, model, spare, trial)


def _stayed(replica: Replica, model: Model, now_s: float) -> bool:
    return settled(replica.state_since_s, replica.last_used_s, stay_s(model), now_s)


def _judge_sleeper(need: Need, replica: Replica, trial: Trial) -> tuple[str | None, Harm]:
    # 6.
    desired = trial.desired.get(replica.model)
    wanted = replica.model != need.model.id and desired is not None and desired.missing > 0
    if not wanted:
        return None, Harm.NONE
    return (None, Harm.WAITING) if need.urgent else ("about to be woken", Harm.NONE)


def _judge_ready(
    need: Need, replica: Replica, model: Model | None, spare: dict[ModelId, int], trial: Trial
) -> tuple[str | None, Harm]:
    # 7.
    if replica.model == need.model.id:
        return "its own", Harm.NONE
    if model is None:
        return ("busy" if replica.in_flight else None), Harm.NONE
    # 10.
    if replica.in_flight:
        return _judge_turn(need, replica, model, trial, "busy")
    # 9.
    if trial.patience_s is not None and not need.overdue and not _stayed(replica, model, trial.now_s):
        return "only just there", Harm.NONE
    # 3.
    stands = (trial.state.outlook.standings if need.called else trial.desired)[model.id]
    left = spare.get(model.id)
    if left is None:
        left = trial.ready(model.id) - stands.count
    if model.demand.present and (left <= 0 or not need.first):
        return _judge_turn(need, replica, model, trial, "wanted by callers")
    if left > 0:
        spare[model.id] = left - 1
        return None, Harm.NONE
    # 4.
    if need.model.priority > model.priority:
        return None, Harm.MINIMUM
    if stands.count > model.min_replicas:
        return "kept for what may come", Harm.NONE
    return _kept(model), Harm.NONE


def _judge_turn(need: Need, replica: Replica, model: Model, trial: Trial, why_not: str) -> tuple[str | None, Harm]:
    # 10.
    patience_s = trial.patience_s
    if patience_s is None or not need.overdue:
        return why_not, Harm.NONE
    if not had_turn(replica.state_since_s, stay_s(model), patience_s, trial.now_s):
        return why_not, Harm.NONE
    here = sum(one.model == model.id and one.state is ReplicaState.READY for one in trial.on_gpu(replica.gpu))
    if trial.ready(model.id) - here < model.min_replicas and need.model.priority <= model.priority:
        return _kept(model), Harm.NONE
    return None, Harm.TURN


def _kept(model: Model) -> str:
    return "kept warm" if model.floor_why else "kept by min_replicas"
