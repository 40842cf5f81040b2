"""The plan as a document, computed from what the controller decided last. Imported when first asked for: the packer's
own libraries are nothing that a worker should carry around otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.plan_documents import (
    CandidateView,
    IfCalled,
    LeavingView,
    PlanDocument,
    PlannedAction,
    PlannedModel,
    PlannedReplica,
)
from models.catalog.policies import described
from models.control.reckoning import reckoned
from models.control.recording import RecordingError, Step, decode_line
from models.control.whatif import Answer, UnknownName, if_called, plan_of, with_call, with_drain
from packers.types import Action, Candidate, Model, Snapshot

__all__ = ["UnknownName", "plan_document", "read_step"]


def read_step(line: bytes) -> Step:
    """Raises RecordingError when a controller of another version wrote it."""
    step = decode_line(line)
    if not isinstance(step, Step):
        raise RecordingError("what the controller shows is not a decision")
    return step


def plan_document(step: Step, *, explain: bool, model: str | None, wake: str | None, drain: str | None) -> PlanDocument:
    """``explain``: say of every model what a request to it would meet. Raises UnknownName."""
    snapshot, what_if = step.snapshot, []
    if wake is not None:
        snapshot = with_call(snapshot, wake)
        what_if.append(f"{wake} is called")
    if drain is not None:
        snapshot = with_drain(snapshot, drain)
        what_if.append(f"{drain} is drained")
    plan = plan_of(step, snapshot)
    supposed = Step(snapshot=snapshot, policies=step.policies, plan=plan)
    chosen = [each for each in reckoned(snapshot.models) if model is None or each.id == model]
    if not chosen and model is not None:
        raise UnknownName(f"there is no model {model!r} in the snapshot")
    return PlanDocument(
        snapshot_id=snapshot.id,
        at_unix_s=snapshot.now_s,
        simulated=any(gpu.simulated for gpu in snapshot.gpus),
        policies=described(step.policies),
        what_if=" and ".join(what_if) or None,
        actions=tuple(
            _action(each) for each in plan.actions if model is None or model in (each.model, _evicted_for(each))
        ),
        models=tuple(_model(each, supposed, explain) for each in chosen),
    )


def supposed_actions(step: Step, snapshot: Snapshot) -> tuple[PlannedAction, ...]:
    """What would be decided if the snapshot were that one."""
    return tuple(_action(each) for each in plan_of(step, snapshot).actions)


def _action(action: Action) -> PlannedAction:
    return PlannedAction(
        action=type(action).__name__.lower(),
        model_id=action.model,
        reason=action.reason,
        gpu=getattr(action, "gpu", None),
        replica_id=getattr(action, "replica", None),
        evicted_for=_evicted_for(action),
        candidates=_views(getattr(action, "candidates", ())),
    )


def _model(model: Model, step: Step, explain: bool) -> PlannedModel:
    mine = (replica for replica in step.snapshot.replicas if replica.model == model.id)
    return PlannedModel(
        model_id=model.id,
        replicas=tuple(
            PlannedReplica(replica_id=each.id, gpu=each.gpu, state=each.state.value, in_flight=each.in_flight)
            for each in mine
        ),
        in_flight=model.demand.in_flight,
        held=model.demand.held,
        start_s=model.startup.disk_s,
        wake_s=model.startup.host_s,
        if_called=_answer(if_called(step, model.id)) if explain else None,
    )


def _answer(answer: Answer) -> IfCalled:
    return IfCalled(
        outcome=answer.outcome,
        summary=answer.summary,
        gpu=answer.gpu,
        wait_s=answer.wait_s,
        leaving=tuple(
            LeavingView(model_id=one.model, replica_id=one.replica, gpu=one.gpu, sleeps=one.sleeps, back_s=one.back_s)
            for one in answer.leaving
        ),
        candidates=_views(answer.candidates),
        counterfactuals=answer.counterfactuals,
    )


def _views(candidates: Iterable[Candidate]) -> tuple[CandidateView, ...]:
    return tuple(
        CandidateView(gpu=one.gpu, free_bytes=one.free_bytes, score=one.score, rejected=one.rejected)
        for one in candidates
    )


def _evicted_for(action: Any) -> str | None:
    found: str | None = getattr(action, "evicted_for", None)
    return found
