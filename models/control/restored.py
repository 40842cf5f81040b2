"""Replicas of nodes that do not answer a new controller: kept as they were written down, until it is known better.

They stay in the routes, and their memory stays reserved. When their node joins they are adopted from what their engines
say; when it does not, they are lost with it.
"""

from __future__ import annotations

import logging

from models.control.node_book import recorded_node
from models.control.tracked import Tracked
from models.control.world import World, as_node
from models.store.records import FleetRecord, NodeRecord, ReplicaRecord
from packers.ledger import LedgerError
from packers.types import Footprint, GpuId, ModelId, NodeId, ReplicaId, ReplicaState

log = logging.getLogger("roundhouse.control")
# One that was draining serves as well as it did: why it was to leave is not written down, and may be decided again.
STATES = {
    "starting": ReplicaState.STARTING,
    "ready": ReplicaState.READY,
    "draining": ReplicaState.READY,
    "asleep": ReplicaState.ASLEEP,
}


class Restored:
    """Owned by the loop."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._records: dict[NodeId, dict[str, ReplicaRecord]] = {}

    def put(self, record: NodeRecord, before: FleetRecord, now: float, within_s: float) -> int:
        """Take the node into the world as one that is away; how many replicas are kept there."""
        world = self._world
        if record.id not in world.nodes:
            node = recorded_node(record, before)
            world.ledger.put_node(as_node(node))
            for gpu in node.gpus:
                world.ledger.put_gpu(gpu)
            world.nodes[node.id] = node
            world.yard.put(node)
        world.yard.await_until(NodeId(record.id), "it does not answer since this controller began", now + within_s)
        kept = {one.replica_id: one for one in before.replicas if one.node == record.id and self._keep(one)}
        self._records[NodeId(record.id)] = kept
        return len(kept)

    def take(self, node: NodeId) -> dict[str, ReplicaRecord]:
        """Those of that node, of which it is known now what becomes of them."""
        return self._records.pop(node, {})

    def release(self, replica: ReplicaId) -> None:
        """What was reserved by its record gives way to what its engine says."""
        self._world.replicas.pop(replica, None)
        self._world.ledger.release(replica)

    def _keep(self, record: ReplicaRecord) -> bool:
        state = STATES.get(record.state)
        if state is None:
            return False
        try:
            footprint = _footprint(record)
            asleep = state is ReplicaState.ASLEEP
            held = (footprint.residue_bytes, footprint.host_bytes) if asleep else (footprint.gpu_bytes, 0)
            self._world.ledger.reserve(ReplicaId(record.replica_id), ModelId(record.model_id), GpuId(record.gpu), *held)
        except (LedgerError, ValueError) as problem:
            log.warning("replica %s cannot be kept: %s", record.replica_id, problem)
            return False
        self._world.replicas[ReplicaId(record.replica_id)] = tracked = Tracked(
            id=ReplicaId(record.replica_id),
            model=ModelId(record.model_id),
            node=NodeId(record.node),
            gpu=GpuId(record.gpu),
            footprint=footprint,
            endpoint=record.endpoint,
            control=record.control,
            card_hash=record.card_hash,
            simulated=self._world.is_simulated(GpuId(record.gpu)),
            state=state,
            reason="its node does not answer since this controller began",
            state_since_s=record.state_since_unix_s,
            ready_since_s=record.state_since_unix_s,
            last_used_s=record.last_used_unix_s,
            pid=record.pid,
            start_s=record.start_s,
            measured=record.measured,
            detail=record.detail,
            timings_s=record.timings_s,
            cold=record.cold,
            adopted=True,
            out_of_reach=True,
            address=record.address,
        )
        tracked.replaces = ReplicaId(record.replaces) if record.replaces else None
        return True


def _footprint(record: ReplicaRecord) -> Footprint:
    """Raises ValueError for one that cannot be."""
    kinds = record.footprint
    return Footprint(
        weights_bytes=kinds.get("weights", 0),
        kv_cache_bytes=kinds.get("kv_cache", 0),
        overhead_bytes=kinds.get("overhead", 0),
        residue_bytes=kinds.get("residue", 0),
        host_bytes=kinds.get("host", 0),
    )
