"""The Fleet on Ray: a detached node actor per node, a detached replica actor per engine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from models.fleet.node_actor import NodeActor, NodeSettings
from models.fleet.protocol import FleetEvent, FleetNode, NodeLost, ReplicaLost, StartFailed
from models.fleet.ray_actors import live_nodes, named_actor
from models.fleet.replica_actor import ReplicaActor
from models.fleet.tag import Tag
from models.runtimes.protocol import EngineError, EngineOrder, EngineStatus
from packers.types import NodeId, ReplicaId

log = logging.getLogger("roundhouse.fleet")
NODE_PING_S = 2.0
NODE_LOST_AFTER_S = 30.0


def node_name() -> str:
    """The name of this node: ``ROUNDHOUSE_NODE`` or its host name."""
    return os.environ.get("ROUNDHOUSE_NODE") or socket.gethostname()


class RayFleet:
    """All Ray calls of the control loop. One event loop; every method may run concurrently."""

    def __init__(self, home: str, simulated_bytes: tuple[int, ...] | None, host_bytes: int) -> None:
        self._home = home
        self._simulated_bytes = simulated_bytes
        self._host_bytes = host_bytes
        self._nodes: dict[NodeId, Any] = {}
        self._ray_nodes: dict[NodeId, str] = {}
        self._replicas: dict[ReplicaId, Any] = {}
        self._status: dict[ReplicaId, tuple[NodeId, EngineStatus]] = {}
        self._listeners: list[Callable[[FleetEvent], Awaitable[None]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._wanted_gone: set[ReplicaId] = set()

    async def open(self) -> RayFleet:
        """Find or create the node actor of every live Ray node."""
        here = ray.get_runtime_context().get_node_id()
        for ray_node in live_nodes():
            name = NodeId(node_name() if ray_node == here else f"node-{ray_node[:8]}")
            settings = NodeSettings(
                node=name, home=self._home, simulated_bytes=self._simulated_bytes, host_bytes=self._host_bytes
            )
            self._ray_nodes[name] = ray_node
            self._nodes[name] = named_actor(NodeActor, f"node-{name}", settings, ray_node=ray_node, restart=True)
            self._spawn(self._ping(name))
        return self

    def subscribe(self, on_event: Callable[[FleetEvent], Awaitable[None]]) -> None:
        self._listeners.append(on_event)

    async def nodes(self) -> tuple[FleetNode, ...]:
        return tuple([await _ask(actor.info.remote()) for actor in self._nodes.values()])

    async def start(self, node: NodeId, order: EngineOrder) -> EngineStatus:
        replica = ReplicaId(order.replica_id)
        self._wanted_gone.discard(replica)
        status: EngineStatus = await _ask(self._nodes[node].start.remote(order, Tag.decode(order.tag).gpu))
        self._status[replica] = (node, status)
        self._spawn(self._keep(node, replica, status))
        return status

    async def adopt(self, node: NodeId, status: EngineStatus) -> EngineStatus:
        replica = ReplicaId(status.order.replica_id)
        self._wanted_gone.discard(replica)
        self._status[replica] = (node, status)
        actor, status = await self._own(node, replica, status)
        if status.state == "loading":
            status = await _ask(actor.wait_ready.remote())
        self._status[replica] = (node, status)
        self._spawn(self._keep(node, replica, status))
        return status

    async def wake(self, replica: ReplicaId) -> EngineStatus:
        return await self._call(replica, "wake")

    async def sleep(self, replica: ReplicaId) -> EngineStatus:
        return await self._call(replica, "sleep")

    async def _call(self, replica: ReplicaId, verb: str) -> EngineStatus:
        """Through the replica's actor, or through its node while the actor is not there yet."""
        if replica not in self._status:
            raise StartFailed(f"replica {replica} is gone")
        node, status = self._status[replica]
        actor = self._replicas.get(replica)
        if actor is not None:
            try:
                status = await _ask(getattr(actor, verb).remote())
            except ActorGone:
                actor = None
        if actor is None:
            status = await _ask(getattr(self._nodes[node], verb).remote(status))
        self._status[replica] = (node, status)
        return status

    async def stop(self, replica: ReplicaId) -> None:
        self._wanted_gone.add(replica)
        if replica not in self._status:
            return
        node, status = self._status[replica]
        with contextlib.suppress(StartFailed):
            await _ask(self._nodes[node].stop.remote(status))
        self._status.pop(replica, None)
        self._discard_actor(replica)

    async def observe(self) -> dict[NodeId, tuple[EngineStatus, ...]]:
        found: dict[NodeId, tuple[EngineStatus, ...]] = {}
        for node, actor in self._nodes.items():
            with contextlib.suppress(StartFailed):
                found[node] = await _ask(actor.scan.remote())
                for status in found[node]:  # so that even one nobody adopts can be stopped
                    self._status.setdefault(ReplicaId(status.order.replica_id), (node, status))
        return found

    async def stop_all(self) -> int:
        self._wanted_gone.update(self._status)
        ended = 0
        for actor in self._nodes.values():
            with contextlib.suppress(StartFailed):
                ended += await _ask(actor.stop_all.remote())
        for replica in list(self._replicas):
            self._discard_actor(replica)
        self._status.clear()
        return ended

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    async def _own(self, node: NodeId, replica: ReplicaId, status: EngineStatus) -> tuple[Any, EngineStatus]:
        """Give the engine its own actor; only from then on is it reached through it."""
        actor = named_actor(
            ReplicaActor, f"replica-{replica}", status.order.control_path, ray_node=self._ray_nodes[node]
        )
        status = await _ask(actor.adopt.remote())
        await _ask(self._nodes[node].hand_over.remote(str(replica)))
        self._replicas[replica] = actor
        return actor, status

    async def _keep(self, node: NodeId, replica: ReplicaId, status: EngineStatus) -> None:
        """Give the engine its own actor and wait for its end; a dead actor is replaced while the engine lives."""
        reason: str | None = None
        while replica not in self._wanted_gone:
            try:
                actor, _ = await self._own(node, replica, status)
                reason = await _ask(actor.watch.remote())
                break
            except ActorGone:
                self._replicas.pop(replica, None)  # the actor died; the engine outlives it by its lease
                await asyncio.sleep(0.1)
            except StartFailed:
                reason = await self._end_reason(node, status)
                break
        if replica in self._wanted_gone:
            self._discard_actor(replica)
            self._wanted_gone.discard(replica)
            return
        with contextlib.suppress(StartFailed):  # its memory counts as free from here on: make sure of it
            await _ask(self._nodes[node].stop.remote(status))
        self._discard_actor(replica)
        self._status.pop(replica, None)
        await self._tell(ReplicaLost(replica_id=replica, reason=reason or "its engine ended"))

    def _discard_actor(self, replica: ReplicaId) -> None:
        actor = self._replicas.pop(replica, None)
        if actor is not None:
            ray.kill(actor)

    async def _end_reason(self, node: NodeId, status: EngineStatus) -> str:
        try:
            return str(await _ask(self._nodes[node].end_reason.remote(status)))
        except StartFailed as problem:
            return str(problem)

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

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

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
