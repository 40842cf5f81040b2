"""How each node stands: whether it answers, whether it will be taken away, and what operators want of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from models.fleet.protocol import FleetNode
from models.store.records import FleetRecord, GpuRecord, NodeRecord
from packers.types import Gpu, GpuId, NodeId

SHOWN_LOST_S = 600.0  # a node that was given up stays on the screens for so long


@dataclass(slots=True)
class NodeStanding:
    """``joined``: as the fleet said it last, with GPUs that are lost meanwhile. ``away``, ``lost``: why, "" where it is
    not. ``await_until_s``: it is given up then; for nodes that an earlier controller knew. ``drained``: what is there
    is to leave, too; it is ``cordoned`` then."""

    joined: FleetNode
    away: str = ""
    lost: str = ""
    lost_at_s: float = 0.0
    await_until_s: float | None = None
    leaving_at_s: float | None = None
    leaving_why: str = ""
    reclaimed: bool = False  # that it leaves is an operator's word: nobody else takes it back
    cordoned: bool = False
    drained: bool = False
    lost_gpus: dict[GpuId, str] = field(default_factory=dict)
    shrinking: dict[GpuId, Gpu] = field(default_factory=dict)  # GPUs that are smaller now than what is reserved there

    @property
    def state(self) -> str:
        if self.lost:
            return "lost"
        if self.away:
            return "away"
        return "ready" if self.leaving_at_s is None else "leaving"

    @property
    def empties(self) -> bool:
        """What is there is to leave, as long as it can be told anything."""
        return not self.away and (self.drained or self.leaving_at_s is not None)

    def stays(self) -> None:
        """It is not taken away, after all."""
        self.leaving_at_s, self.leaving_why, self.reclaimed = None, "", False

    def closed(self, gpu: GpuId) -> str:
        """Why nothing new goes to this GPU; "" where only the GPU itself may say so."""
        if self.away:
            return f"{self.joined.id} is away"
        if self.leaving_at_s is not None:
            return f"{self.joined.id} will be taken away"
        if self.cordoned:
            return f"{self.joined.id} is {'drained' if self.drained else 'cordoned'}"
        return "it is smaller than it was, and what is there has to leave first" if gpu in self.shrinking else ""


class NodeBook:
    """Owned by the loop. Knows the nodes of the world, and for a while those that are lost."""

    def __init__(self) -> None:
        self._nodes: dict[NodeId, NodeStanding] = {}
        self.version = 0  # grows with whatever may change what may be placed where

    def __iter__(self) -> Iterator[NodeStanding]:
        return iter(self._nodes.values())

    def get(self, node: NodeId) -> NodeStanding | None:
        return self._nodes.get(node)

    def put(self, node: FleetNode) -> NodeStanding:
        """It is there, with these GPUs. What operators and its owner have said of it holds on."""
        standing = self._nodes.setdefault(node.id, NodeStanding(node))
        standing.joined, standing.away, standing.lost, standing.await_until_s = node, "", "", None
        standing.lost_gpus = {}
        self.changed()
        return standing

    def await_until(self, node: NodeId, why: str, until_s: float) -> NodeStanding:
        """Nothing is known of what goes on there; it counts as away until it joins, for so long at most."""
        standing = self._nodes[node]
        standing.away, standing.await_until_s = why, until_s
        self.changed()
        return standing

    def lose(self, standing: NodeStanding, why: str, now: float) -> None:
        """It is given up. Operators' words are remembered as long as it is shown: the machine may come back."""
        standing.lost, standing.lost_at_s, standing.away, standing.await_until_s = why, now, "", None
        standing.shrinking = {}
        self.changed()

    def refuse(self, node: FleetNode, why: str, now: float) -> None:
        """It is there, and not taken."""
        self.lose(self._nodes.setdefault(node.id, NodeStanding(node)), why, now)

    def changed(self) -> None:
        self.version += 1

    def forget_lost(self, now: float) -> None:
        """But for those of which operators' words are to hold when they join again."""
        old = [node for node, one in self._nodes.items() if one.lost and now - one.lost_at_s > SHOWN_LOST_S]
        for node in old:
            if not self._nodes[node].cordoned:
                del self._nodes[node]

    def is_away(self, node: NodeId) -> bool:
        standing = self._nodes.get(node)
        return standing is not None and bool(standing.away)

    def closed(self, gpu: Gpu) -> str:
        standing = self._nodes.get(gpu.node)
        return "" if standing is None else standing.closed(gpu.id)

    def empties(self, node: NodeId) -> bool:
        standing = self._nodes.get(node)
        return standing is not None and standing.empties

    # What is written down

    def node_record(self, record: NodeRecord) -> NodeRecord:
        """With how it stands."""
        standing = self._nodes.get(NodeId(record.id))
        return record if standing is None else _standing_in(record, standing)

    def lost_nodes(self) -> tuple[NodeRecord, ...]:
        return tuple(
            _standing_in(
                NodeRecord(
                    id=one.joined.id,
                    address=one.joined.address,
                    host_bytes=one.joined.host_bytes,
                    host_reserved_bytes=0,
                    alive=False,
                    link_bytes_per_s=one.joined.link_bytes_per_s,
                ),
                one,
            )
            for one in self._nodes.values()
            if one.lost
        )

    def lost_gpus(self) -> tuple[GpuRecord, ...]:
        """Of nodes that are there and of those that are not."""
        return tuple(
            GpuRecord(
                id=gpu.id,
                node=gpu.node,
                index=gpu.index,
                name=gpu.name,
                simulated=gpu.simulated,
                memory_bytes=gpu.memory_bytes,
                reserved_bytes=0,
                free_bytes=0,
                pool=gpu.pool,
                lost=one.lost_gpus.get(gpu.id) or f"{gpu.node} is lost: {one.lost}",
            )
            for one in self._nodes.values()
            for gpu in one.joined.gpus
            if one.lost or gpu.id in one.lost_gpus
        )

    def recall(self, before: FleetRecord) -> None:
        """What was said of nodes to an earlier controller."""
        for record in before.nodes:
            standing = self._nodes.get(NodeId(record.id))
            if standing is None and record.cordoned:  # it is lost, and to be cordoned when it joins again
                standing = self._nodes[NodeId(record.id)] = NodeStanding(recorded_node(record, before))
                standing.lost = record.reason or "it was lost"
            if standing is not None:
                standing.cordoned, standing.drained = record.cordoned, record.drained
                standing.leaving_at_s = record.leaving_unix_s
                standing.leaving_why = record.reason if record.leaving_unix_s is not None else ""
                standing.reclaimed = record.reclaimed
        self.changed()


def complaint(node: FleetNode, others: Iterable[FleetNode]) -> str:
    """Why what a node says of itself cannot be; "" where it can. ``others``: those that are in the world."""
    theirs = {gpu.id: other.id for other in others if other.id != node.id for gpu in other.gpus}
    seen: set[GpuId] = set()
    for gpu in node.gpus:
        if gpu.node != node.id:
            return f"GPU {gpu.id} says that it is on node {gpu.node}"
        if gpu.id in theirs:
            return f"GPU {gpu.id} is on node {theirs[gpu.id]} already; names of nodes have to be unique"
        if gpu.id in seen:
            return f"GPU {gpu.id} is listed twice"
        if gpu.memory_bytes <= 0:
            return f"GPU {gpu.id} has {gpu.memory_bytes} bytes of memory; that cannot be"
        seen.add(gpu.id)
    return f"it has {node.host_bytes} bytes of host RAM; that cannot be" if node.host_bytes < 0 else ""


def _standing_in(record: NodeRecord, one: NodeStanding) -> NodeRecord:
    return msgspec.structs.replace(
        record,
        state=one.state,
        alive=one.state in ("ready", "leaving"),
        reason=one.lost or one.away or one.leaving_why,
        cordoned=one.cordoned,
        drained=one.drained,
        leaving_unix_s=one.leaving_at_s,
        reclaimed=one.reclaimed,
    )


def recorded_node(record: NodeRecord, before: FleetRecord) -> FleetNode:
    """A node as an earlier controller knew it. Nothing can be started there before it joins."""
    gpus = tuple(
        Gpu(
            GpuId(gpu.id),
            NodeId(gpu.node),
            gpu.index,
            gpu.memory_bytes,
            gpu.name,
            gpu.simulated,
        )
        for gpu in before.gpus
        if gpu.node == record.id and not gpu.lost
    )
    return FleetNode(
        id=NodeId(record.id),
        address=record.address,
        host_bytes=record.host_bytes,
        gpus=gpus,
        run_dir="",
        link_bytes_per_s=record.link_bytes_per_s,
        simulated=all(gpu.simulated for gpu in gpus),
    )
