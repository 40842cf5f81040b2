"""Nodes and GPUs that come and go, and what becomes of the replicas on them.

1. A node that joins brings its GPUs and its RAM. What runs there and is followed goes on; what nobody follows is
   adopted where it has a place, else stopped (``models.control.adoption``).
2. While a node is away nothing new goes there, and nothing is ordered there. Its replicas keep their places, in the
   routes and in the ledger: they may well serve. A start that was under way there is nothing to wait for: another one
   may be made, and which of the two is one too many is settled when the node is back.
3. A node that is lost takes its replicas with it. One that an earlier controller knew and that does not join within
   JOIN_WITHIN_S counts as lost.
4. A node that will be taken away is emptied like a drained one: substitutes elsewhere first. RECLAIM_DRAIN_S +
   RECLAIM_MARGIN_S before its end what is still there leaves all the same, RECLAIM_MARGIN_S before it at the latest.
   One that does not answer at its end is lost, one that still answers LET_OFF_AFTER_S later was let off.
5. A GPU that is lost takes its replicas with it; their processes are stopped. It is back when the fleet says so.
6. A GPU that has become smaller than what is reserved there takes nothing new, and replicas leave it until they fit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import msgspec

from models.control.adoption import COMING, Adopter
from models.control.journal import Journal
from models.control.messages import HappenedToNodes, Lost, NodeGone
from models.control.node_book import NodeStanding, complaint
from models.control.replicas import ReplicaDesk
from models.control.restored import Restored
from models.control.tracked import Tracked
from models.control.work import Work
from models.control.world import World, as_node
from models.fleet.protocol import FleetNode, GpuBack, GpuLost, NodeAway, NodeJoined, NodeLeaving
from models.runtimes.protocol import EngineStatus
from packers.explain import count
from packers.ledger import LedgerError
from packers.types import Gpu, GpuId, ModelId, NodeId, ReplicaId, ReplicaState

log = logging.getLogger("roundhouse.control")
JOIN_WITHIN_S = 60.0
Drain = Callable[[Tracked, ReplicaState, str, float], None]
RECLAIM_MARGIN_S = 3.0  # processes end in time, so that callers get the end of their stream from a node that still is
RECLAIM_DRAIN_S = 12.0  # what callers have to finish in where no substitute was ready before
LET_OFF_AFTER_S = 60.0
SEEN_AFTER_S = 2.0  # what has begun more recently may have been missed by whoever looked for engines


class NodeDesk:
    """Owned by the loop. ``put_down``: orders an engine's end of the fleet; ``drain``: takes a replica out of the
    routes, to be ended when it has finished what it has."""

    def __init__(
        self,
        world: World,
        journal: Journal,
        replicas: ReplicaDesk,
        adopter: Adopter,
        work: Work,
        *,
        put_down: Callable[[ReplicaId], None],
        drain: Drain,
    ) -> None:
        self._world = world
        self._journal = journal
        self._replicas = replicas
        self._adopter = adopter
        self._put_down = put_down
        self._drain = drain
        self._work = work
        self.restored = Restored(world)
        self._returned: set[ModelId] = set()  # of these there may be one replica too many

    def take(self, message: HappenedToNodes, now: float) -> None:
        match message:
            case NodeJoined(node=node, engines=engines):
                self._joined(node, engines, now)
            case NodeAway(node=name, reason=reason):
                self._away(name, reason)
            case NodeGone(node=name, reason=reason):
                self._gone(name, reason, now)
            case NodeLeaving(node=name, at_unix_s=at_s, reason=reason):
                self.leaves(name, at_s, reason)
            case GpuLost(gpu=gpu, reason=reason):
                self._gpu_lost(gpu, reason, now)
            case GpuBack(gpu=gpu):
                self._gpu_back(gpu)

    def settle(self, now: float) -> bool:
        """What time brings. To be called in every step, before anything is decided; True when something changed."""
        changed = False
        for standing in tuple(self._world.yard):
            if standing.await_until_s is not None and now >= standing.await_until_s:
                self._gone(standing.joined.id, f"it did not join within {JOIN_WITHIN_S:.0f} s of the controller", now)
                changed = True
            elif standing.leaving_at_s is not None and not standing.lost:
                changed |= self._leave(standing, standing.leaving_at_s, now)
            if not standing.lost and (standing.shrinking or standing.joined.host_bytes < self._host_bytes(standing)):
                changed |= self._shrink(standing, now)
        self._world.yard.forget_lost(now)
        for model in tuple(self._returned):
            changed |= self._thin_out(model, now)
        return changed

    def noted(self, standing: NodeStanding, verb: str) -> None:
        """An operator's word on a node is a decision like any other."""
        node = standing.joined.id
        self._journal.note_text("node_ordered", None, f"{node}: {verb} by operator", node=node, verb=verb)

    def must_end(self, tracked: Tracked, now: float) -> bool:
        """There is no time left for what it still does."""
        standing = self._world.yard.get(tracked.node)
        return standing is not None and standing.leaving_at_s is not None and now >= _stop_s(standing.leaving_at_s)

    # 1.

    def _joined(self, node: FleetNode, engines: Iterable[EngineStatus], now: float) -> None:
        world = self._world
        wrong = complaint(node, world.nodes.values())
        if wrong:
            log.error("node %s is not taken: %s", node.id, wrong)
            self._journal.note_text("node_refused", None, f"{node.id} is not taken: {wrong}")
            if node.id not in world.nodes:
                world.yard.refuse(node, wrong, now)
            return
        before, was_away = world.nodes.get(node.id), world.yard.is_away(node.id)
        standing = world.yard.put(node)
        if standing.leaving_at_s is not None and (not standing.reclaimed or now > standing.leaving_at_s):
            standing.stays()  # else the fleet says so again; and after its time it is another machine, or was let off
        self._take_gpus(node, before, standing, now)
        self._meet(node.id, {ReplicaId(status.order.replica_id): status for status in engines}, was_away, now)
        what = "node_joined" if before is None else "node_back" if was_away else "node_changed"
        self._journal.note_text(what, None, f"{node.id} has joined with {count(len(node.gpus), 'GPU')}")
        for pool in sorted({world.pools.pool_of(gpu) for gpu in node.gpus} - world.pools.known):
            log.warning("node %s: pool %r is not in the configuration; its GPUs count as owned", node.id, pool)

    def _take_gpus(self, node: FleetNode, before: FleetNode | None, standing: NodeStanding, now: float) -> None:
        world, there = self._world, {gpu.id for gpu in node.gpus}
        for gpu in before.gpus if before is not None else ():
            if gpu.id not in there:
                self._drop_gpu(gpu.id, f"{node.id} does not have it any more", now)
        known = {gpu.id: gpu for gpu in world.nodes[node.id].gpus} if before is not None else {}
        self._put_node(node)
        standing.shrinking = {}
        for gpu in node.gpus:
            try:
                world.ledger.put_gpu(gpu)
                known[gpu.id] = gpu
            except LedgerError as problem:
                log.warning("node %s: %s", node.id, problem)
                standing.shrinking[gpu.id] = gpu
        self._set_gpus(node.id, known.values())
        world.failures.room_came()

    def _put_node(self, node: FleetNode) -> None:
        """Sleeping replicas are not put out of RAM that their node does not have any more: it goes as they go."""
        ledger, known = self._world.ledger, node.id in self._world.nodes
        host_bytes = max(node.host_bytes, ledger.reserved_host(node.id)) if known else node.host_bytes
        node = msgspec.structs.replace(node, host_bytes=host_bytes)
        ledger.put_node(as_node(node))
        self._world.nodes[node.id] = node

    def _set_gpus(self, node: NodeId, gpus: Iterable[Gpu]) -> None:
        world = self._world
        ordered = tuple(sorted(gpus, key=lambda gpu: (gpu.index, gpu.id)))
        world.nodes[node] = msgspec.structs.replace(world.nodes[node], gpus=ordered)
        world.yard.changed()

    def _meet(self, node: NodeId, engines: dict[ReplicaId, EngineStatus], was_away: bool, now: float) -> None:
        """Compare who is followed there with who lives there."""
        records = self.restored.take(node)
        for replica in records.keys() - {str(replica) for replica in engines}:
            self._replicas.take(Lost(ReplicaId(replica), "it ended while no controller watched", with_node=True), now)
        for name in records:
            self.restored.release(ReplicaId(name))
        for tracked in self._on(node):
            tracked.out_of_reach = False
            if engines.pop(tracked.id, None) is None and was_away and self._is_missing(tracked, now):
                self._replicas.take(Lost(tracked.id, f"it ended while {node} was away"), now)
            elif was_away and tracked.state is ReplicaState.STARTING:
                self._returned.add(tracked.model)
        self._adopter.take_over(node, engines.values(), now, records=records, spare=self._is_spare)

    def _is_missing(self, tracked: Tracked, now: float) -> bool:
        return not self._work.under_way(tracked.id) and tracked.state_since_s < now - SEEN_AFTER_S

    def _is_spare(self, status: EngineStatus) -> bool:
        model = ModelId(status.order.model_id)
        return status.state != "asleep" and not self._has_place(model, 1)

    def _has_place(self, model: ModelId, more: int) -> bool:
        """For so many replicas besides those that serve or will, substitutes not counted."""
        card = self._world.entries[model].card
        coming = [one for one in self._world.of_model(model) if one.state in COMING and not one.out_of_reach]
        substituted = {one.replaces for one in coming}
        count = sum(one.id not in substituted for one in coming)
        return count + more <= max(card.max_replicas, card.min_replicas)

    def _thin_out(self, model: ModelId, now: float) -> bool:
        """A start that was thought lost was made once more: one of the two goes when both serve."""
        if model not in self._world.entries or self._has_place(model, 0):
            self._returned.discard(model)
            return False
        ready = [one for one in self._world.of_model(model) if one.state is ReplicaState.READY and not one.out_of_reach]
        if len(ready) < 2:
            return False
        spare = min(ready, key=lambda one: (one.in_flight, -one.ready_since_s, one.id))
        self._drain(spare, ReplicaState.DEAD, "its place was taken while a node was away", now)
        return True

    # 2.

    def _away(self, node: NodeId, reason: str) -> None:
        standing = self._world.yard.get(node)
        if standing is None or standing.lost or standing.away:
            return
        standing.away = reason
        self._world.yard.changed()
        mine = self._on(node)
        for tracked in mine:
            tracked.out_of_reach = True
        log.warning("node %s is away: %s", node, reason)
        self._journal.note_text("node_away", None, f"{node} is away ({reason}); replicas kept there: {len(mine)}")

    # 3.

    def _gone(self, node: NodeId, reason: str, now: float) -> None:
        world, standing = self._world, self._world.yard.get(node)
        if standing is None or standing.lost:
            return
        log.error("node %s is lost: %s", node, reason)
        self._journal.note_text("node_lost", None, f"{node} is lost: {reason}")
        self.restored.take(node)
        for tracked in self._on(node):
            self._replicas.take(Lost(tracked.id, f"{node} is lost: {reason}", with_node=True), now)
        for gpu in world.nodes[node].gpus:
            world.ledger.drop_gpu(gpu.id)
            world.used_bytes.pop(gpu.id, None)
        world.ledger.drop_node(node)
        del world.nodes[node]
        world.tiers.pop(node, None)
        world.yard.lose(standing, reason, now)

    # 4.

    def leaves(self, node: NodeId, at_unix_s: float, reason: str) -> None:
        standing = self._world.yard.get(node)
        if standing is None or standing.lost:
            return
        known_s, standing.leaving_at_s, standing.leaving_why = standing.leaving_at_s, at_unix_s, reason
        self._world.yard.changed()
        if known_s != at_unix_s:
            left_s = at_unix_s - self._world.now
            log.warning("node %s will be taken away in %.0f s: %s", node, left_s, reason)
            self._journal.note_text("node_leaving", None, f"{node} will be taken away in {left_s:.0f} s: {reason}")

    def _leave(self, standing: NodeStanding, at_s: float, now: float) -> bool:
        node = standing.joined.id
        if standing.away:
            if now >= at_s:
                self._gone(node, f"it was to be taken away by now, and does not answer ({standing.away})", now)
            return now >= at_s
        if now < _stop_s(at_s) - RECLAIM_DRAIN_S:
            return False
        if now > at_s + LET_OFF_AFTER_S and not standing.reclaimed:
            standing.stays()
            self._world.yard.changed()
            self._journal.note_text("node_back", None, f"{node} is still there: it was not taken away")
            return True
        left = [tracked for tracked in self._on(node) if not tracked.ending]
        for tracked in left:
            why = f"{node} is taken away, and {tracked.model} was not ready elsewhere in time"
            if tracked.state is ReplicaState.STARTING:  # whatever it is started for has no time left there
                tracked.put_down(f"{node} is taken away before it was ready", now)
                self._put_down(tracked.id)
            elif tracked.state is not ReplicaState.DRAINING or tracked.draining_to is ReplicaState.ASLEEP:
                self._drain(tracked, ReplicaState.DEAD, why, now)
        return bool(left)

    # 5.

    def _gpu_lost(self, gpu: GpuId, reason: str, now: float) -> None:
        standing = self._standing_of(gpu)
        if standing is None or gpu in standing.lost_gpus:
            return
        log.error("GPU %s is lost: %s", gpu, reason)
        self._journal.note_text("gpu_lost", None, f"{gpu} is lost: {reason}")
        standing.lost_gpus[gpu] = reason
        self._drop_gpu(gpu, f"{gpu} is lost: {reason}", now)

    def _drop_gpu(self, gpu: GpuId, why: str, now: float) -> None:
        world = self._world
        for tracked in [each for each in world.replicas.values() if each.gpu == gpu]:
            self._lose(tracked, why, now)
        world.ledger.drop_gpu(gpu)
        world.used_bytes.pop(gpu, None)
        for standing in world.yard:
            standing.shrinking.pop(gpu, None)
        node = next(each for each in world.nodes.values() if any(one.id == gpu for one in each.gpus))
        self._set_gpus(node.id, [one for one in node.gpus if one.id != gpu])

    def _gpu_back(self, gpu: GpuId) -> None:
        standing = self._standing_of(gpu)
        if standing is None or standing.lost_gpus.pop(gpu, None) is None:
            return
        node = self._world.nodes[standing.joined.id]
        back = next(each for each in standing.joined.gpus if each.id == gpu)
        self._world.ledger.put_gpu(back)
        self._set_gpus(node.id, [*node.gpus, back])
        self._world.failures.room_came()
        self._journal.note_text("gpu_back", None, f"{gpu} is back")

    def _standing_of(self, gpu: GpuId) -> NodeStanding | None:
        return next(
            (one for one in self._world.yard if not one.lost and any(each.id == gpu for each in one.joined.gpus)), None
        )

    def _lose(self, tracked: Tracked, why: str, now: float) -> None:
        """It is of no use any more; its process may still be there."""
        self._replicas.take(Lost(tracked.id, why, with_node=True), now)
        self._put_down(tracked.id)

    # 6.

    def _shrink(self, standing: NodeStanding, now: float) -> bool:
        world, node, before = self._world, standing.joined.id, self._world.yard.version
        if self._host_bytes(standing) > max(standing.joined.host_bytes, world.ledger.reserved_host(node)):
            gpus = world.nodes[node].gpus
            self._put_node(standing.joined)
            self._set_gpus(node, gpus)
        for gpu in tuple(standing.shrinking.values()):
            if world.ledger.reserved_gpu(gpu.id) <= gpu.memory_bytes:
                world.ledger.put_gpu(gpu)
                del standing.shrinking[gpu.id]
                self._set_gpus(node, [gpu if one.id == gpu.id else one for one in world.nodes[node].gpus])
            elif not standing.away:
                self._make_smaller(gpu, now)
        return world.yard.version != before

    def _make_smaller(self, gpu: Gpu, now: float) -> None:
        """The least important and longest unused leaves, one at a time."""
        there = [each for each in self._world.replicas.values() if each.gpu == gpu.id]
        may = [each for each in there if each.state in (ReplicaState.READY, ReplicaState.ASLEEP)]
        if any(each.state is ReplicaState.DRAINING for each in there) or not may:
            return
        first = min(may, key=lambda each: (self._priority(each.model), each.last_used_s, each.id))
        self._drain(first, ReplicaState.DEAD, f"{gpu.id} has less memory than it had", now)

    def _priority(self, model: ModelId) -> int:
        entry = self._world.entries.get(model)
        return 0 if entry is None else entry.card.priority

    def _host_bytes(self, standing: NodeStanding) -> int:
        node = self._world.nodes.get(standing.joined.id)
        return 0 if node is None else node.host_bytes

    def _on(self, node: NodeId) -> list[Tracked]:
        return [tracked for tracked in self._world.replicas.values() if tracked.node == node]


def _stop_s(leaving_at_s: float) -> float:
    return leaving_at_s - RECLAIM_MARGIN_S
