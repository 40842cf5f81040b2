"""The Fleet on Ray: two detached actors per node, one that starts engines and one that keeps the running ones.

Nodes are found as Ray's head lists them (``ray_actors.ray_table``), each is followed by itself (``ray_node``), and what
concerns an engine of a node that is away waits for its return, or until the node is lost.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from ray.exceptions import RayError

from models.catalog.gpus import SimulatedGpu
from models.fleet.node_place import NodeSettings
from models.fleet.protocol import (
    FleetEvent,
    FleetNode,
    NodeJoined,
    NodeLook,
    NodeLost,
    NodeView,
    ReplicaLost,
    StartFailed,
    Superseded,
)
from models.fleet.ray_actors import RayEntry, ray_table
from models.fleet.ray_calls import ActorGone, CallBroken, NodeGivenUp
from models.fleet.ray_node import Call, Incarnation, RayNode
from models.fleet.tag import Tag
from models.runtimes.protocol import EngineOrder, EngineStatus, Fault
from packers.types import NodeId, ReplicaId

log = logging.getLogger("roundhouse.fleet")
POLL_EVERY_S = 1.0
HEAD_SILENT_AFTER_S = 5.0  # what it said before then counts no more
OPEN_WAIT_S = 60.0
OPEN_OTHERS_S = 3.0
LOOK_TIMEOUT_S = 10.0
CLAIM_TIMEOUT_S = 5.0
STOP_ALL_TIMEOUT_S = 30.0
RETRY_S = 0.1
AGAIN_S = 1.0  # an engine that could not be ended


class NoNodes(Exception):
    """Not one node can be used; the message says why."""


class RayFleet:
    """All Ray calls of the control loop. One event loop; every method may run concurrently.

    ``home``, ``simulated``, ``host_bytes``: of nodes that say nothing else of themselves (``NodeSettings``).
    """

    def __init__(self, home: str, simulated: tuple[SimulatedGpu, ...] | None, host_bytes: int | None) -> None:
        self._home = home
        self._simulated = simulated
        self._host_bytes = host_bytes
        self._epoch = 0
        self._nodes: dict[NodeId, RayNode] = {}
        self._meeting: dict[NodeId, asyncio.Task[bool]] = {}
        self._table: tuple[RayEntry, ...] = ()
        self._listed_s = 0.0  # when Ray's head last answered
        self._kept: set[ReplicaId] = set()  # by their node's keeper; what is not is reached through the node actor
        self._starting: dict[ReplicaId, tuple[NodeId, EngineOrder]] = {}  # not known to be ready or to have failed
        self._status: dict[ReplicaId, tuple[NodeId, EngineStatus]] = {}
        self._listeners: list[Callable[[FleetEvent], Awaitable[None]]] = []
        self._untold: list[FleetEvent] = []  # what happened before anybody listened
        self._tasks: set[asyncio.Task[Any]] = set()
        self._watches: dict[ReplicaId, asyncio.Task[None]] = {}

    # -- nodes ---------------------------------------------------------------------------------------------------

    async def open(self) -> RayFleet:
        """Meet every living Ray node. Once there is one, the others have OPEN_OTHERS_S: who takes longer joins later.

        Raises NoNodes, RayError.
        """
        await self._look_at_table()
        until_s = time.monotonic() + OPEN_WAIT_S
        meeting = set(self._meeting.values())
        while meeting and not self._any_answers and (left_s := until_s - time.monotonic()) > 0:
            _, meeting = await asyncio.wait(meeting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        if meeting and self._any_answers:
            await asyncio.wait(meeting, timeout=OPEN_OTHERS_S)
        if not self._any_answers:
            raise NoNodes("; ".join(f"{node.name}: {node.problem}" for node in self._nodes.values()) or "Ray has none")
        self._spawn(self._poll())
        return self

    @property
    def _any_answers(self) -> bool:
        return any(node.answers for node in self._nodes.values())

    def subscribe(self, on_event: Callable[[FleetEvent], Awaitable[None]]) -> None:
        """The first one is told what happened so far, except for the joining of nodes: ``nodes`` shows those."""
        self._listeners.append(on_event)
        untold, self._untold = self._untold, []
        if untold:
            self._spawn(self._tell_all(untold))

    async def _tell_all(self, events: list[FleetEvent]) -> None:
        for event in events:
            await self._tell(event)

    async def _tell(self, event: FleetEvent) -> None:
        if isinstance(event, NodeLost):
            self._forget(event.node)
        elif isinstance(event, NodeJoined):
            self._note(event.node.id, event.engines)
        if not self._listeners:
            self._untold.append(event)
        for listener in self._listeners:
            await listener(event)

    async def nodes(self) -> tuple[FleetNode, ...]:
        self._untold = [event for event in self._untold if not isinstance(event, NodeJoined)]
        return tuple(node.shown for node in self._nodes.values() if node.answers and node.shown is not None)

    async def claim(self, epoch: int) -> int:
        """A node that does not answer within CLAIM_TIMEOUT_S obeys from the next command on."""
        highest = max(await self._claim(0), default=0)
        if highest < epoch:
            self._epoch = epoch
            highest = max(highest, *(await self._claim(epoch)), 0)
        return highest

    async def _claim(self, epoch: int) -> list[int]:
        return list((await self._ask_all(lambda now: now.actor.claim.remote(epoch), CLAIM_TIMEOUT_S)).values())

    async def _ask_all(self, call: Call, within_s: float) -> dict[NodeId, Any]:
        """What the nodes answer that are there and do; none holds up another. Raises Superseded."""

        async def ask_one(node: RayNode) -> Any:
            try:
                return await node.once(call, within_s)
            except StartFailed as problem:
                log.warning("%s is left out: %s", node.name, problem)
                return None

        asked = [node for node in self._nodes.values() if node.answers]
        answers = await asyncio.gather(*(ask_one(node) for node in asked))
        return {node.name: answer for node, answer in zip(asked, answers, strict=True) if answer is not None}

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_EVERY_S)
            try:
                await self._look_at_table()
            except RayError as problem:
                log.warning("Ray's head does not say which nodes there are: %s", problem)

    async def _look_at_table(self) -> None:
        """A head that does not answer holds up this task alone. Raises RayError."""
        self._table = await asyncio.to_thread(ray_table)
        self._listed_s = time.monotonic()
        for entry in self._table:
            if entry.alive:
                self._meet(entry)

    def _meet(self, entry: RayEntry) -> None:
        node = self._nodes.get(entry.name)
        if node is None:
            node = self._nodes[entry.name] = self._new_node(entry.name)
            self._spawn(node.attend(lambda: self._given_up(node)))
        if entry.name not in self._meeting and node.wants(entry.ray_node):
            meeting = self._meeting[entry.name] = self._spawn(node.meet(entry.ray_node))
            meeting.add_done_callback(lambda _: self._meeting.pop(entry.name, None))

    def _new_node(self, name: NodeId) -> RayNode:
        settings = NodeSettings(node=name, home=self._home, simulated=self._simulated, host_bytes=self._host_bytes)
        return RayNode(settings, self._tell, lambda: self._epoch, time.monotonic)

    def _given_up(self, node: RayNode) -> bool | None:
        if time.monotonic() - self._listed_s > HEAD_SILENT_AFTER_S:
            return None
        return all(not entry.alive for entry in self._table if entry.name == node.name)

    def _forget(self, node: NodeId) -> None:
        for replica in [replica for replica, (where, _) in self._status.items() if where == node]:
            del self._status[replica]
            self._kept.discard(replica)

    def _node(self, node: NodeId) -> RayNode:
        """Raises StartFailed."""
        found = self._nodes.get(node)
        if found is None:
            raise StartFailed(f"there is no node {node}")
        return found

    # -- engines -------------------------------------------------------------------------------------------------

    async def start(self, node: NodeId, order: EngineOrder) -> EngineStatus:
        replica, where = ReplicaId(order.replica_id), self._node(node)
        if not where.answers:
            raise StartFailed(f"{node} does not answer")
        self._starting[replica] = (node, order)
        gpu = Tag.decode(order.tag).gpu
        status: EngineStatus = await where.insist(lambda now: now.actor.start.remote(self._epoch, order, gpu))
        self._starting.pop(replica, None)
        self._begin_watch(node, replica, status)
        return status

    async def adopt(self, node: NodeId, status: EngineStatus) -> EngineStatus:
        replica, where = ReplicaId(status.order.replica_id), self._node(node)
        self._status[replica] = (node, status)
        status = await self._hand_over(where, replica, status)
        if status.state == "loading":
            path = status.order.control_path
            status = await where.insist(lambda now: now.keeper.wait_ready.remote(path))
        self._begin_watch(node, replica, status)
        return status

    async def wake(self, replica: ReplicaId) -> EngineStatus:
        return await self._change(replica, "wake")

    async def sleep(self, replica: ReplicaId) -> EngineStatus:
        return await self._change(replica, "sleep")

    async def _change(self, replica: ReplicaId, verb: str) -> EngineStatus:
        """Through the keeper, or through the node actor while that has not handed the engine over."""
        if replica not in self._status:
            raise StartFailed(f"replica {replica} is gone")
        node, status = self._status[replica]

        def call(now: Incarnation) -> Any:
            if replica in self._kept:
                return getattr(now.keeper, verb).remote(self._epoch, status.order.control_path)
            return getattr(now.actor, verb).remote(self._epoch, status)

        changed: EngineStatus = await self._node(node).insist(call, lambda: self._kept.discard(replica))
        self._status[replica] = (node, changed)
        return changed

    async def stop(self, replica: ReplicaId) -> None:
        if replica not in self._status:
            await self._abandon(replica)
            return
        node, status = self._status[replica]
        self._end_watch(replica)  # another engine may come in this one's place, under its name
        await self._ended(self._node(node), replica, lambda now: now.actor.stop.remote(self._epoch, status))
        if replica in self._status and self._status[replica][1].pid == status.pid:
            del self._status[replica]
        self._let_go(node, replica, status)

    async def _abandon(self, replica: ReplicaId) -> None:
        """Whoever started it has lost patience; it may load for ever."""
        node, order = self._starting.pop(replica, (None, None))
        if node is not None:
            await self._ended(self._node(node), replica, lambda now: now.actor.abandon.remote(self._epoch, order))

    async def _ended(self, where: RayNode, replica: ReplicaId, call: Call) -> None:
        """Once it is, or its node is given up: its memory counts as free from then on. Raises Superseded."""
        while True:
            try:
                await where.insist(call)
                return
            except NodeGivenUp:
                return
            except StartFailed as problem:
                log.error("%s could not be ended, which is tried again: %s", replica, problem)
                await asyncio.sleep(AGAIN_S)

    async def observe(self) -> dict[NodeId, tuple[EngineStatus, ...]]:
        found: dict[NodeId, tuple[EngineStatus, ...]] = await self._ask_all(
            lambda now: now.actor.scan.remote(), LOOK_TIMEOUT_S
        )
        for node, statuses in found.items():
            self._note(node, statuses)
        return found

    def _note(self, node: NodeId, statuses: tuple[EngineStatus, ...]) -> None:
        """So that even one nobody adopts can be stopped."""
        for status in statuses:
            self._status.setdefault(ReplicaId(status.order.replica_id), (node, status))

    async def look(self, asked: Mapping[NodeId, NodeLook]) -> dict[NodeId, NodeView]:
        async def look_at(node: NodeId, look: NodeLook) -> NodeView | None:
            try:
                seen: NodeView = await self._node(node).once(lambda now: now.actor.look.remote(look), LOOK_TIMEOUT_S)
            except StartFailed:
                return None
            return seen

        views = await asyncio.gather(*(look_at(node, look) for node, look in asked.items()))
        return {node: view for node, view in zip(asked, views, strict=True) if view is not None}

    async def weights(self, node: NodeId, ask: Any) -> Any:
        where = self._node(node)
        if not where.answers:
            raise StartFailed(f"{node} does not answer")
        return await where.insist(lambda now: now.actor.weights.remote(ask))

    async def stop_all(self) -> int:
        for replica in list(self._watches):
            self._end_watch(replica)
        ended = await self._ask_all(lambda now: now.actor.stop_all.remote(self._epoch), STOP_ALL_TIMEOUT_S)
        for replica, (node, status) in list(self._status.items()):
            if node in ended:
                self._let_go(node, replica, status)
                self._status.pop(replica, None)
        return sum(ended.values())

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    # -- what becomes of them ------------------------------------------------------------------------------------

    def _begin_watch(self, node: NodeId, replica: ReplicaId, status: EngineStatus) -> None:
        self._end_watch(replica)
        self._status[replica] = (node, status)
        self._watches[replica] = self._spawn(self._watch(node, replica, status))

    def _end_watch(self, replica: ReplicaId) -> None:
        watch = self._watches.pop(replica, None)
        if watch is not None:
            watch.cancel()

    async def _hand_over(self, where: RayNode, replica: ReplicaId, status: EngineStatus) -> EngineStatus:
        """From the node actor to the keeper; only from then on is the engine reached through that."""
        path, pid = status.order.control_path, status.pid
        found: EngineStatus = await where.insist(lambda now: now.keeper.adopt.remote(self._epoch, path, pid))
        await where.insist(lambda now: now.actor.hand_over.remote(self._epoch, str(replica)))
        self._kept.add(replica)
        return found

    async def _watch(self, node: NodeId, replica: ReplicaId, status: EngineStatus) -> None:
        """Have the engine kept and wait for its end. When the keeper dies, Ray starts it again; the engine goes on."""
        where = self._node(node)
        try:
            reason, fault = await self._end_of(where, replica, status) or ("its engine ended", "other")
            await self._ended(where, replica, lambda now: now.actor.stop.remote(self._epoch, status))
        except (NodeGivenUp, Superseded) as problem:  # the loss of the node was told; a later controller sees to it
            log.warning("%s is not watched any more: %s", replica, problem)
            self._watches.pop(replica, None)
            return
        self._let_go(node, replica, status)
        self._status.pop(replica, None)
        self._watches.pop(replica, None)
        await self._tell(ReplicaLost(replica_id=replica, reason=reason, fault=fault))

    async def _end_of(self, where: RayNode, replica: ReplicaId, status: EngineStatus) -> tuple[str, Fault] | None:
        """Raises NodeGivenUp, Superseded."""
        path = status.order.control_path
        while True:
            try:
                await self._hand_over(where, replica, status)
                ended: tuple[str, Fault] | None = await where.once(lambda now: now.keeper.watch.remote(path), None)
                return ended
            except NodeGivenUp:
                raise
            except ActorGone:
                self._kept.discard(replica)
                await asyncio.sleep(RETRY_S)
            except CallBroken as problem:  # it may well be alive: nothing that serves is ended for this
                log.error("%s could not be watched, which is tried again: %s", replica, problem)
                await asyncio.sleep(AGAIN_S)
            except StartFailed as problem:
                return (str(problem), problem.fault) if problem.fault == "hang" else await self._said(where, status)

    async def _said(self, where: RayNode, status: EngineStatus) -> tuple[str, Fault]:
        try:
            reason, fault = await where.insist(lambda now: now.actor.end_reason.remote(status))
        except NodeGivenUp:
            raise
        except StartFailed as problem:
            return str(problem), problem.fault
        return reason, fault

    def _let_go(self, node: NodeId, replica: ReplicaId, status: EngineStatus) -> None:
        self._kept.discard(replica)
        where = self._nodes.get(node)
        if where is not None:  # whether it is heard is of no concern
            where.tell(lambda now: now.keeper.release.remote(self._epoch, status.order.control_path))

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("fleet task failed", exc_info=task.exception())
