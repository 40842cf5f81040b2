"""What the audit log says of an order to the controller: how its object stood, and what was asked. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.actor import ACTOR
from models.store.audit import audit_record
from models.store.records import Command, FleetRecord
from models.store.tenancy import AuditRecord

ONLY_ASKED = ("snapshot", "weights")  # verbs that change nothing
_PLAIN = msgspec.structs.asdict(Command(id="", verb=""))


def is_act(command: Command) -> bool:
    return not command.dry_run and command.verb not in ONLY_ASKED


def act_of(command: Command) -> str:
    """model.wake, node.drain, gpu.undrain, service.reload ..."""
    for field, noun in (("model_id", "model"), ("node", "node"), ("gpu", "gpu")):
        if getattr(command, field) is not None:
            return f"{noun}.{command.verb}"
    return f"service.{command.verb}"


def asked_of(command: Command) -> dict[str, Any]:
    """Those of its fields that say something."""
    given = msgspec.structs.asdict(command)
    return {name: value for name, value in given.items() if name not in ("id", "wait") and value != _PLAIN[name]}


def stand_of(command: Command, fleet: FleetRecord | None) -> dict[str, Any] | None:
    """Of the model, node or GPU that is meant, as the controller wrote it last; None where it has written nothing."""
    if fleet is None:
        return None
    if command.model_id is not None:
        there = {one.replica_id: one.state for one in fleet.replicas if one.model_id == command.model_id}
        warm = [msgspec.to_builtins(one) for one in fleet.warm if one.model_id == command.model_id]
        return {"replicas": there, "warm": warm}
    if command.node is not None:
        return _one(fleet.nodes, command.node)
    if command.gpu is not None:
        return _one(fleet.gpus, command.gpu)
    if command.verb.startswith("defrag"):
        return {"defrag": None if fleet.defrag is None else {"id": fleet.defrag.id, "state": fleet.defrag.state}}
    return None


def act_record(command: Command, act: str, before: object, after: object, at_unix_s: float) -> AuditRecord:
    what = command.model_id or command.node or command.gpu or command.verb
    return audit_record(ACTOR.get(), act, what, before, after, at_unix_s)


def _one(records: Any, wanted: str) -> dict[str, Any] | None:
    found = next((record for record in records if record.id == wanted), None)
    return None if found is None else dict(msgspec.to_builtins(found))
