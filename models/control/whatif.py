"""What the packer would do, and what it would do if one thing were different. Pure: from one recorded step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from models.control.reckoning import reckoned
from models.control.recording import Step
from packers.counterfactual import alternatives, never
from packers.decide import decide
from packers.state import State
from packers.types import (
    DEFAULT_START,
    Action,
    Candidate,
    GpuId,
    Hold,
    Model,
    ModelId,
    Plan,
    Refuse,
    ReplicaId,
    ReplicaState,
    Sleep,
    Snapshot,
    Start,
    Stop,
    Wake,
)

GPUS_SHOWN = 16  # of counterfactuals, those that take least from others first


class UnknownName(LookupError):
    """A model or a GPU that the snapshot does not have."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """Who would have to go, and how long it takes to bring it back."""

    model: ModelId
    replica: ReplicaId
    gpu: GpuId
    sleeps: bool
    back_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What would become of a model if it were called now.

    ``outcome``: serves | comes | start | wake | evict | hold | refuse. ``wait_s``: until it serves, None where that
    depends on others. ``leaving``: whom it displaces. ``candidates``: the GPUs that were looked at.
    ``counterfactuals``: where a hold would end, and at what price; what a refusal lacks; in words.
    """

    outcome: str
    summary: str
    gpu: GpuId | None = None
    wait_s: float | None = None
    leaving: tuple[Leaving, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    counterfactuals: tuple[str, ...] = ()


def with_call(snapshot: Snapshot, name: str) -> Snapshot:
    """One more request waits for the model. Raises UnknownName."""
    if name not in {model.id for model in snapshot.models}:
        raise UnknownName(f"there is no model {name!r} in the snapshot")
    models = (_called(model, snapshot.now_s) if model.id == name else model for model in snapshot.models)
    return replace(snapshot, models=tuple(models))


def with_drain(snapshot: Snapshot, gpu: str) -> Snapshot:
    """An operator wants the GPU empty. Raises UnknownName."""
    if gpu not in {each.id for each in snapshot.gpus}:
        raise UnknownName(f"there is no GPU {gpu!r}; these are there: {', '.join(each.id for each in snapshot.gpus)}")
    return replace(
        snapshot, gpus=tuple(replace(each, cordoned=True) if each.id == gpu else each for each in snapshot.gpus)
    )


def plan_of(step: Step, snapshot: Snapshot) -> Plan:
    """What was decided, if the snapshot is as it was; else what would be."""
    return step.plan if snapshot is step.snapshot else decide(snapshot, step.policies)


def if_called(step: Step, name: ModelId) -> Answer:
    """Raises UnknownName."""
    asked = with_call(step.snapshot, name)
    model = next(each for each in asked.models if each.id == name)
    mine = [replica for replica in asked.replicas if replica.model == name]
    for state, outcome, summary in (
        (ReplicaState.READY, "serves", "is served at once"),
        (ReplicaState.STARTING, "comes", "is starting already"),
    ):
        found = next((replica for replica in mine if replica.state is state), None)
        if found is not None:
            wait_s = 0.0 if outcome == "serves" else None
            return Answer(outcome, f"{summary} ({found.id} on {found.gpu})", found.gpu, wait_s)
    plan = decide(asked, step.policies)
    told = replace(asked, models=reckoned(asked.models))
    answer = _from_plan(next(each for each in told.models if each.id == name), plan, told)
    if answer.outcome == "refuse":
        return replace(answer, counterfactuals=(never(model, State.of(asked)),))
    if answer.outcome != "hold":
        return answer
    others = alternatives(State.of(told), model.id, most=GPUS_SHOWN)
    return replace(answer, counterfactuals=tuple(one.text for one in others))


def _called(model: Model, now_s: float) -> Model:
    demand = model.demand
    return replace(model, demand=replace(demand, held=max(1, demand.held)))


def _from_plan(model: Model, plan: Plan, snapshot: Snapshot) -> Answer:
    leaving = tuple(_leaving(plan, model.id, snapshot))
    looked_at = next((one for one in map(_candidates, _about(plan, model.id)) if one), ())
    for action in plan.actions:
        if action.model != model.id:
            continue
        match action:
            case Wake(gpu=gpu):
                wait_s = model.startup.host_s
                return Answer("wake", f"would wake on {gpu} in {_wait(model, 'wake')}", gpu, wait_s, leaving, looked_at)
            case Start(gpu=gpu):
                wait_s = model.startup.disk_s
                return Answer(
                    "start", f"would start on {gpu} in {_wait(model, 'start')}", gpu, wait_s, leaving, looked_at
                )
            case Refuse(reason=reason):
                return Answer("refuse", reason, candidates=looked_at)
            case Hold(reason=reason) if leaving:
                return _evicting(model, leaving, looked_at, snapshot)
            case Hold(reason=reason):
                return Answer("hold", reason, candidates=looked_at)
    return Answer("hold", "nothing would be done for it", candidates=looked_at)


def _evicting(
    model: Model, leaving: tuple[Leaving, ...], looked_at: tuple[Candidate, ...], snapshot: Snapshot
) -> Answer:
    gpu = leaving[-1].gpu
    sleeps_there = any(
        replica.model == model.id and replica.gpu == gpu and replica.state is ReplicaState.ASLEEP
        for replica in snapshot.replicas
    )
    wait_s = model.startup.host_s if sleeps_there else model.startup.disk_s
    verb = "wake" if sleeps_there else "start"
    summary = f"would {verb} on {gpu} in {_wait(model, verb)} once {_price(leaving)}"
    return Answer("evict", summary, gpu, wait_s, leaving, looked_at)


def _wait(model: Model, verb: str) -> str:
    startup = model.startup
    wait_s, assumed_s = (
        (startup.host_s, DEFAULT_START.host_s) if verb == "wake" else (startup.disk_s, DEFAULT_START.disk_s)
    )
    return f"{_span(wait_s)}{' (assumed: none was measured yet)' if wait_s == assumed_s else ''}"


def _price(leaving: Iterable[Leaving]) -> str:
    """``qwen sleeps (2.1 s to wake it)``."""
    return " and ".join(
        f"{one.model} {'sleeps' if one.sleeps else 'stops'} "
        f"({_span(one.back_s)} to {'wake it' if one.sleeps else 'start it again'})"
        for one in leaving
    )


def _span(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2f} s"


def _leaving(plan: Plan, model: ModelId, snapshot: Snapshot) -> Iterable[Leaving]:
    startup = {each.id: each.startup for each in snapshot.models}
    for action in plan.actions:
        if isinstance(action, Sleep | Stop) and action.evicted_for == model:
            times = startup.get(action.model)
            sleeps = isinstance(action, Sleep)
            back_s = 0.0 if times is None else times.host_s if sleeps else times.disk_s
            yield Leaving(action.model, action.replica, action.gpu, sleeps, back_s)


def _about(plan: Plan, model: ModelId) -> Iterable[Action]:
    for action in plan.actions:
        if action.model == model or getattr(action, "evicted_for", None) == model:
            yield action


def _candidates(action: Action) -> tuple[Candidate, ...]:
    found: tuple[Candidate, ...] = getattr(action, "candidates", ())
    return found
