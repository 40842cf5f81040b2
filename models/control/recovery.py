"""Taking over after a restart: what lives is re-adopted from what it says of itself, never started again."""

from __future__ import annotations

import logging

import msgspec

from models.control.controller import Controller
from models.control.costs import UNKNOWN_TIER, cost_name
from models.control.tracked import Tracked
from models.fleet.protocol import Fleet
from models.fleet.tag import Tag
from models.runtimes.protocol import EngineStatus
from models.store.records import FleetRecord, ReplicaRecord
from packers.ledger import OverCapacity, UnknownGpu
from packers.types import GpuId, ModelId, NodeId, ReplicaId, ReplicaState

log = logging.getLogger("roundhouse.control")


async def recover(controller: Controller, fleet: Fleet, before: FleetRecord | None, now: float) -> int:
    """Rebuild the world from the engines that are alive; the number adopted.

    1. An engine whose model, card and reservation still hold is adopted: ready and asleep ones as they are, loading
       ones once they are ready.
    2. Any other engine is stopped.
    3. A recorded replica that is not alive is noted as dead.
    """
    world = controller.world
    world.now = now
    records = {record.replica_id: record for record in before.replicas} if before else {}
    if before is not None:
        world.routes_version, world.seq = before.routes_version, before.seq
        for gpu in before.gpus:
            if gpu.cordoned:
                world.cordoned.add(GpuId(gpu.id))
    adopted: set[str] = set()
    for node, statuses in (await fleet.observe()).items():
        for status in statuses:
            replica = status.order.replica_id
            tracked = _tracked(controller, node, status, records.get(replica), now)
            if tracked is None:
                log.warning("engine %s belongs to nobody and is stopped", replica)
                controller.put_down(ReplicaId(replica))
                continue
            adopted.add(replica)
            controller.adopt(tracked, status)
    for replica, record in records.items():
        if replica not in adopted and record.state != ReplicaState.DEAD:
            controller.journal.note_text(
                "died", ModelId(record.model_id), f"{replica} ended while no controller watched"
            )
    return len(adopted)


def _tracked(
    controller: Controller, node: NodeId, status: EngineStatus, record: ReplicaRecord | None, now: float
) -> Tracked | None:
    """The replica with its memory reserved, or None when it cannot be kept."""
    world, order = controller.world, status.order
    entry = world.entries.get(ModelId(order.model_id))
    try:
        tag = Tag.decode(order.tag)
    except msgspec.MsgspecError:
        return None
    if entry is None or entry.card.engine_hash != tag.card_hash or status.state == "failed":
        return None
    asleep = status.state == "asleep"
    footprint = tag.footprint
    gpu_bytes, host_bytes = (footprint.residue_bytes, footprint.host_bytes) if asleep else (footprint.gpu_bytes, 0)
    replica = ReplicaId(order.replica_id)
    try:
        world.ledger.reserve(replica, entry.id, tag.gpu, gpu_bytes, host_bytes)
    except (OverCapacity, UnknownGpu) as problem:
        log.warning("engine %s cannot be kept: %s", replica, problem)
        return None
    tracked = Tracked(
        id=replica,
        model=entry.id,
        node=node,
        gpu=tag.gpu,
        footprint=footprint,
        endpoint=f"unix:{order.http_path}",
        control=order.control_path,
        card_hash=tag.card_hash,
        simulated=world.is_simulated(tag.gpu),
        state={"asleep": ReplicaState.ASLEEP, "ready": ReplicaState.READY}.get(status.state, ReplicaState.STARTING),
        reason="re-adopted",
        adopted=True,
        state_since_s=record.state_since_unix_s if record else now,
        last_used_s=record.last_used_unix_s if record else now,
        replaces=ReplicaId(record.replaces) if record and record.replaces else None,
    )
    tracked.ready_since_s = tracked.state_since_s
    tracked.cold = order.cold
    tracked.learn(status)
    if tracked.start_s is not None and not tracked.cold:  # better than nothing, where nothing was remembered
        world.history.costs.recall({entry.id: {cost_name("start", UNKNOWN_TIER): (tracked.start_s,)}})
    return tracked
