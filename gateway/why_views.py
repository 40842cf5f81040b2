"""Why things are as they are, put together from records, decisions and what a call would meet. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway import why_helps
from gateway.decision_documents import DecisionView
from gateway.plan_documents import IfCalled
from gateway.why_documents import Why, WhyReplica
from models.catalog.units import format_bytes
from models.store.records import FleetRecord, GpuRecord, ModelRecord, ReplicaRecord, WarmRecord

SLEEPS_TTLS = 10  # a sleeper is kept for so many times its ttl
BROUGHT = ("start", "wake", "adopt", "sleep")
TOLD = {
    "ready": "serves",
    "starting": "is starting",
    "draining": "is leaving",
    "asleep": "sleeps",
}


def why_model(
    record: ModelRecord,
    fleet: FleetRecord | None,
    decisions: Sequence[DecisionView],
    answer: IfCalled | None,
    unknown: str | None,
    now_unix_s: float,
) -> Why:
    mine = [each for each in (fleet.replicas if fleet else ()) if each.model_id == record.model_id]
    return Why(
        subject="model",
        name=record.model_id,
        at_unix_s=now_unix_s,
        summary=_summary(record, mine),
        replicas=tuple(_replica(each, fleet, record, decisions, now_unix_s) for each in mine),
        if_called=answer,
        unknown=unknown,
        decisions=tuple(decisions),
        helps=tuple(why_helps.of_model(record, fleet, answer, now_unix_s)),
    )


def why_replica(
    name: str,
    fleet: FleetRecord | None,
    catalog: Iterable[ModelRecord],
    decisions: Sequence[DecisionView],
    now_unix_s: float,
) -> Why:
    """Also of one that is gone, as far as the decisions tell."""
    found = next((each for each in (fleet.replicas if fleet else ()) if each.replica_id == name), None)
    record = next((each for each in catalog if found is not None and each.model_id == found.model_id), None)
    if found is not None:
        shown = _replica(found, fleet, record, decisions, now_unix_s)
        summary = f"{name} of {found.model_id} {TOLD.get(found.state, found.state)} on {found.gpu}"
    else:
        shown, last = None, decisions[0] if decisions else None
        told = last.reason if last is not None else ""
        summary = told if told.startswith(f"{name} is gone") else f"{name} is gone{': ' if told else ''}{told}"
    helps = [f"why its model is where it is: roundhouse why {found.model_id}"] if found is not None else []
    return Why(
        subject="replica",
        name=name,
        at_unix_s=now_unix_s,
        summary=summary,
        replicas=(shown,) if shown is not None else (),
        decisions=tuple(decisions),
        helps=tuple(helps),
    )


def why_gpu(
    gpu: GpuRecord,
    fleet: FleetRecord,
    catalog: Iterable[ModelRecord],
    decisions: Sequence[DecisionView],
    now_unix_s: float,
) -> Why:
    records = {each.model_id: each for each in catalog}
    here = [each for each in fleet.replicas if each.gpu == gpu.id]
    free, all_of_it = format_bytes(gpu.free_bytes), format_bytes(gpu.memory_bytes)
    state = "lost" if gpu.lost else "drained" if gpu.cordoned else f"{free} of {all_of_it} free"
    state += f"; {gpu.closed}" if gpu.closed and not gpu.lost else ""
    return Why(
        subject="gpu",
        name=gpu.id,
        at_unix_s=now_unix_s,
        summary=f"{gpu.id} has {len(here)} replica{'s' * (len(here) != 1)}; {state}",
        replicas=tuple(_replica(each, fleet, records.get(each.model_id), decisions, now_unix_s) for each in here),
        decisions=tuple(decisions),
        helps=tuple(why_helps.of_gpu(gpu)),
    )


def _summary(record: ModelRecord, mine: Sequence[ReplicaRecord]) -> str:
    name = record.model_id
    for state, told in TOLD.items():
        there = [each.gpu for each in mine if each.state == state]
        if there:
            return f"{name} {told} on {', '.join(there)}"
    where = {"page_cache": "in the page cache", "disk": "on disk", "remote": "not on this cluster yet"}
    weights = f"; its weights are {where[record.weights_tier]}" if record.weights_tier in where else ""
    failed = f": {record.failure.message}" if record.failure is not None else ""
    return f"{name} has no replica{failed}{weights}"


def _replica(
    replica: ReplicaRecord,
    fleet: FleetRecord | None,
    record: ModelRecord | None,
    decisions: Iterable[DecisionView],
    now_unix_s: float,
) -> WhyReplica:
    because = next(
        (each for each in decisions if each.replica_id == replica.replica_id and each.action in BROUGHT), None
    )
    held = sum(each.gpu_bytes for each in (fleet.ledger if fleet else ()) if each.replica_id == replica.replica_id)
    return WhyReplica(
        replica_id=replica.replica_id,
        model_id=replica.model_id,
        gpu=replica.gpu,
        state=replica.state,
        since_unix_s=replica.state_since_unix_s,
        in_flight=replica.in_flight,
        gpu_bytes=held,
        reason=replica.reason,
        because=because,
        keeps=_keeps(replica, record, _warm(replica, fleet), now_unix_s),
    )


def _warm(replica: ReplicaRecord, fleet: FleetRecord | None) -> WarmRecord | None:
    """What keeps replicas of its model, where something does now."""
    kept = fleet.warm if fleet is not None else ()
    return next((one for one in kept if one.model_id == replica.model_id and one.state != "planned"), None)


def _keeps(replica: ReplicaRecord, record: ModelRecord | None, warm: WarmRecord | None, now_unix_s: float) -> str:
    """Why it stays, or when it goes."""
    if record is None:
        return "its model is in no catalog: it goes when it is idle"
    if replica.state not in ("ready", "asleep"):
        return ""
    if record.pinned:
        return "it is pinned"
    if replica.in_flight:
        return f"it is busy: {replica.in_flight} in flight"
    if replica.state == "ready" and record.min_replicas:
        return f"min_replicas is {record.min_replicas}"
    if replica.state == "ready" and warm is not None:
        return f"{warm.replicas} of its model {'is' if warm.replicas == 1 else 'are'} kept warm ({warm.by})"
    used_s = max(replica.last_used_unix_s, replica.state_since_unix_s if replica.state == "ready" else 0.0)
    times = 1 if replica.state == "ready" else SLEEPS_TTLS
    left_s = max(0.0, used_s + record.ttl_s * times - now_unix_s)
    does = "leaves its GPU" if replica.state == "ready" else "ends"
    after = f"{'' if times == 1 else f'{times} times '}ttl {record.ttl_s:.0f} s"
    return f"if nobody calls it, it {does} in {left_s:.0f} s ({after}), or when others need its memory"
