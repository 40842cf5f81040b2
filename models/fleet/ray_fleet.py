"""The Fleet on Ray: two detached actors per node, one that starts engines and one that keeps the running ones."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from models.catalog.gpus import SimulatedGpu
from models.fleet.keeper_actor import KeeperActor
from models.fleet.node_actor import NodeActor, NodeSettings
from models.fleet.protocol import FleetEvent, FleetNode, NodeLook, NodeLost, NodeView, ReplicaLost, StartFailed
from models.fleet.ray_actors import live_nodes, named_actor
from models.fleet.tag import Tag
from models.home import node_name
from models.runtimes.protocol import EngineError, EngineOrder, EngineStatus, Fault
from packers.types import NodeId, ReplicaId

log = logging.getLogger("roundhouse.fleet")
NODE_PING_S = 2.0
NODE_LOST_AFTER_S = 30.0
LOOK_TIMEOUT_S = 10.0


class RayFleet:
    """All Ray calls of the control loop. One event loop; every method may run concurrently."""

    def __init__(self, home: str, simulated: tuple[SimulatedGpu, ...] | None, host_bytes: int) -> None:
        self._home = home
        self._simulated = simulated
        self._host_bytes = host_bytes
        self._nodes: dict[NodeId, Any] = {}
        self._ray_nodes: dict[NodeId, str] = {}
        self._keepers: dict[NodeId, Any] = {}
        self._kept: set[ReplicaId] = set()  # by their node's keeper; what is not is reached through the node actor
        self._starting: dict[ReplicaId, NodeId] = {}  # ordered, and not known to be ready or to have failed
        self._status: dict[ReplicaId, tuple[NodeId, EngineStatus]] = {}
        self._listeners: list[Callable[[FleetEvent], Awaitable[None]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._watches: dict[ReplicaId, asyncio.Task[None]] = {}
        self._wanted_gone: set[ReplicaId] = set()

    async def open(self) -> RayFleet:
        """Find or create the actors of every live Ray node."""
        here = ray.get_runtime_context().get_node_id()
        for ray_node in live_nodes():
            name = NodeId(node_name() if ray_node == here else f"node-{ray_node[:8]}")
            settings = NodeSettings(node=name, home=self._home, simulated=self._simulated, host_bytes=self._host_bytes)
            self._ray_nodes[name] = ray_node
            self._nodes[name] = named_actor(NodeActor, f"node-{name}", settings, ray_node=ray_node, restart=True)
            self._keepers[name] = named_actor(KeeperActor, f"keeper-{name}", ray_node=ray_node, restart=True)
            self._spawn(self._ping(name))
        return self

    def subscribe(self, on_event: Callable[[FleetEvent], Awaitable[None]]) -> None:
        self._listeners.append(on_event)

    async def nodes(self) -> tuple[FleetNode, ...]:
        return tuple([await _ask(actor.info.remote()) for actor in self._nodes.values()])

    async def start(self, node: NodeId, order: EngineOrder) -> EngineStatus:
        replica = ReplicaId(order.replica_id)
        self._wanted_gone.discard(replica)
        self._starting[replica] = node
        status: EngineStatus = await _ask(self._nodes[node].start.remote(order, Tag.decode(order.tag).gpu))
        self._starting.pop(replica, None)
        self._status[replica] = (node, status)
        self._watches[replica] = self._spawn(self._watch(node, replica, status))
        return status

    async def adopt(self, node: NodeId, status: EngineStatus) -> EngineStatus:
        replica = ReplicaId(status.order.replica_id)
        self._wanted_gone.discard(replica)
        self._status[replica] = (node, status)
        status = await self._hand_over(node, replica, status)
        if status.state == "loading":
            status = await _ask(self._keepers[node].wait_ready.remote(status.order.control_path))
        self._status[replica] = (node, status)
        self._watches[replica] = self._spawn(self._watch(node, replica, status))
        return status

    async def wake(self, replica: ReplicaId) -> EngineStatus:
        return await self._call(replica, "wake")

    async def sleep(self, replica: ReplicaId) -> EngineStatus:
        return await self._call(replica, "sleep")

    async def _call(self, replica: ReplicaId, verb: str) -> EngineStatus:
        """Through the keeper, or through the node actor while that has not handed the engine over."""
        if replica not in self._status:
            raise StartFailed(f"replica {replica} is gone")
        node, status = self._status[replica]
        if replica in self._kept:
            try:
                status = await _ask(getattr(self._keepers[node], verb).remote(status.order.control_path))
            except ActorGone:
                self._kept.discard(replica)
        if replica not in self._kept:
            status = await _ask(getattr(self._nodes[node], verb).remote(status))
        self._status[replica] = (node, status)
        return status

    async def stop(self, replica: ReplicaId) -> None:
        self._wanted_gone.add(replica)
        if replica not in self._status:
            loading_on = self._starting.pop(replica, None)
            if loading_on is not None:  # whoever started it has lost patience; it may load for ever
                with contextlib.suppress(StartFailed):
                    await _ask(self._nodes[loading_on].abandon.remote(str(replica)))
            return
        node, status = self._status[replica]
        with contextlib.suppress(StartFailed):
            await _ask(self._nodes[node].stop.remote(status))
        self._status.pop(replica, None)
        self._let_go(node, replica, status)
        watch = self._watches.pop(replica, None)
        if watch is not None:  # another engine may come in this one's place, under its name
            watch.cancel()
            self._wanted_gone.discard(replica)

    async def observe(self) -> dict[NodeId, tuple[EngineStatus, ...]]:
        found: dict[NodeId, tuple[EngineStatus, ...]] = {}
        for node, actor in self._nodes.items():
            with contextlib.suppress(StartFailed):
                found[node] = await _ask(actor.scan.remote())
                for status in found[node]:  # so that even one nobody adopts can be stopped
                    self._status.setdefault(ReplicaId(status.order.replica_id), (node, status))
        return found

    async def look(self, asked: Mapping[NodeId, NodeLook]) -> dict[NodeId, NodeView]:
        wanted = [(node, self._nodes[node].look.remote(look)) for node, look in asked.items() if node in self._nodes]
        found: dict[NodeId, NodeView] = {}
        for node, call in wanted:
            with contextlib.suppress(StartFailed, TimeoutError):
                found[node] = await asyncio.wait_for(_ask(call), LOOK_TIMEOUT_S)
        return found

    async def stop_all(self) -> int:
        self._wanted_gone.update(self._status)
        ended = 0
        for actor in self._nodes.values():
            with contextlib.suppress(StartFailed):
                ended += await _ask(actor.stop_all.remote())
        for replica, (node, status) in self._status.items():
            self._let_go(node, replica, status)
        self._status.clear()
        return ended

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    async def _hand_over(self, node: NodeId, replica: ReplicaId, status: EngineStatus) -> EngineStatus:
        """From the node actor to the keeper; only from then on is the engine reached through that."""
        found: EngineStatus = await _ask(self._keepers[node].adopt.remote(status.order.control_path, status.pid))
        await _ask(self._nodes[node].hand_over.remote(str(replica)))
        self._kept.add(replica)
        return found

    async def _watch(self, node: NodeId, replica: ReplicaId, status: EngineStatus) -> None:
        """Have the engine kept and wait for its end. When the keeper dies, Ray starts it again; the engine goes on."""
        ended: tuple[str, Fault] | None = None
        while replica not in self._wanted_gone:
            try:
                await self._hand_over(node, replica, status)
                ended = await _ask(self._keepers[node].watch.remote(status.order.control_path))
                break
            except ActorGone:
                self._kept.discard(replica)
                await asyncio.sleep(0.1)
            except StartFailed as problem:
                hangs = problem.fault == "hang"
                ended = (str(problem), problem.fault) if hangs else await self._end_reason(node, status)
                break
        if replica in self._wanted_gone:
            self._let_go(node, replica, status)
            self._wanted_gone.discard(replica)
            return
        with contextlib.suppress(StartFailed):  # its memory counts as free from here on: make sure of it
            await _ask(self._nodes[node].stop.remote(status))
        self._let_go(node, replica, status)
        self._status.pop(replica, None)
        reason, fault = ended or ("its engine ended", "other")
        self._watches.pop(replica, None)
        await self._tell(ReplicaLost(replica_id=replica, reason=reason, fault=fault))

    def _let_go(self, node: NodeId, replica: ReplicaId, status: EngineStatus) -> None:
        self._kept.discard(replica)
        self._keepers[node].release.remote(status.order.control_path)  # whether it is heard is of no concern

    async def _end_reason(self, node: NodeId, status: EngineStatus) -> tuple[str, Fault]:
        try:
            reason, fault = await _ask(self._nodes[node].end_reason.remote(status))
        except StartFailed as problem:
            return str(problem), problem.fault
        return reason, fault

    async def _ping(self, node: NodeId) -> None:
        """Report a node that Ray has given up. One whose actor is only silent is being started again by Ray."""
        silent_s = 0.0
        while True:
            await asyncio.sleep(NODE_PING_S)
            try:
                await asyncio.wait_for(_ask(self._nodes[node].pid.remote()), NODE_PING_S)
                silent_s = 0.0
            except (StartFailed, TimeoutError):
                silent_s += NODE_PING_S
            if silent_s >= NODE_LOST_AFTER_S and await self._is_dead(node):
                await self._lose(node, f"{node} has not answered for {silent_s:.0f} s, and Ray has given it up")
                return

    async def _is_dead(self, node: NodeId) -> bool:
        try:
            alive = await asyncio.wait_for(asyncio.to_thread(live_nodes), NODE_PING_S)
        except (RayError, TimeoutError):  # Ray's head is away: nobody knows, so nothing is given up
            return False
        return self._ray_nodes[node] not in alive

    async def _lose(self, node: NodeId, reason: str) -> None:
        gone = [replica for replica, (where, _) in self._status.items() if where == node]
        self._wanted_gone.update(gone)
        for replica in gone:
            self._status.pop(replica, None)
        await self._tell(NodeLost(node=node, reason=reason))

    async def _tell(self, event: FleetEvent) -> None:
        for listener in self._listeners:
            await listener(event)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("fleet task failed", exc_info=task.exception())


class ActorGone(StartFailed):
    """The Ray actor is gone; its engine may well be alive."""


async def _ask(call: Any) -> Any:
    """Await a Ray call; engine errors become StartFailed, dead actors ActorGone."""
    try:
        return await call
    except RayTaskError as failure:
        cause = failure.cause if isinstance(failure.cause, Exception) else failure
        if isinstance(cause, EngineError):
            raise StartFailed(str(cause), cause.fault) from cause
        log.error("actor call failed", exc_info=failure)
        raise StartFailed("an internal error on the node; see the controller's log") from failure
    except RayActorError as gone:
        raise ActorGone("the Ray actor is gone") from gone
    except RayError as failure:
        raise StartFailed(f"Ray could not carry out the call ({type(failure).__name__})") from failure
