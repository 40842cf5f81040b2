"""Taking over after a restart: what lives is re-adopted from what it says of itself, never started again."""

from __future__ import annotations

import logging

from models.control.controller import Controller
from models.control.nodes import JOIN_WITHIN_S
from models.fleet.protocol import Fleet
from models.store.records import FleetRecord, NodeRecord
from packers.types import GpuId, ModelId, NodeId, ReplicaState

log = logging.getLogger("roundhouse.control")


async def recover(controller: Controller, fleet: Fleet, before: FleetRecord | None, now: float) -> int:
    """Rebuild the world from the engines that are alive; the number adopted.

    1. An engine whose model, card and reservation still hold is adopted: ready and asleep ones as they are, loading
       ones once they are ready.
    2. Any other engine is stopped, and its memory stays reserved until it is gone.
    3. Recorded replicas of a recorded node that is not there or does not answer are kept: it has JOIN_WITHIN_S to join.
       Nothing new goes to a node before it has said what runs there.
    4. Any other recorded replica that is not alive is noted as dead.
    """
    world = controller.world
    world.now = now
    records = {record.replica_id: record for record in before.replicas} if before else {}
    if before is not None:
        world.routes_version, world.seq = before.routes_version, before.seq
        for gpu in before.gpus:
            if gpu.cordoned:
                world.cordoned.add(GpuId(gpu.id))
        world.floors.recall(before.warm, now)
        world.occupancy.recall(before.gpus)
        world.defrag = before.defrag
    known: set[str] = set()
    adopted = 0
    found, there = await fleet.observe(), dict(world.nodes)
    for node, statuses in found.items():
        if node not in world.nodes:  # it has joined just now: the fleet will say so
            continue
        taken = controller.adopter.take_over(node, statuses, now, records=records)
        known |= taken
        adopted += len(taken)
    if before is not None:
        known |= _keep_silent(controller, before, found.keys() & world.nodes.keys(), now)
        world.yard.recall(before)
    for silent in there.keys() - found.keys():
        world.yard.await_until(silent, "it does not say what runs there", now + JOIN_WITHIN_S)
        controller.look_again(there[silent])
    for replica, record in records.items():
        if replica not in known and record.state != ReplicaState.DEAD:
            text = f"{replica} ended while no controller watched"
            controller.journal.note_text("died", ModelId(record.model_id), text)
    return adopted


def _keep_silent(controller: Controller, before: FleetRecord, found: set[NodeId], now: float) -> set[str]:
    """The replicas of nodes that were there, and do not say anything now."""
    kept: set[str] = set()
    for record in before.nodes:
        if NodeId(record.id) in found or record.state == "lost":
            continue
        count = controller.nodes.restored.put(record, before, now, JOIN_WITHIN_S)
        kept |= {one.replica_id for one in before.replicas if one.node == record.id}
        _say(controller, record, count)
    return kept


def _say(controller: Controller, record: NodeRecord, count: int) -> None:
    text = f"{record.id} does not answer: its {count} replicas are kept, it has {JOIN_WITHIN_S:.0f} s to join"
    log.warning("%s", text)
    controller.journal.note_text("node_away", None, text, node=record.id)
