"""A fleet in virtual time: the same protocol as Ray's, no process and no waiting. For tests and the simulator."""

from __future__ import annotations

import asyncio
import copy
import heapq
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from models.fleet.protocol import (
    FleetEvent,
    FleetNode,
    GpuBack,
    GpuLost,
    NodeAway,
    NodeJoined,
    NodeLeaving,
    NodeLook,
    NodeLost,
    NodeView,
    ReplicaLost,
    StartFailed,
    WeightsTier,
)
from models.fleet.tag import Tag
from models.fleet.virtual_nodes import VirtualNodes
from models.fleet.virtual_weights import VirtualWeights
from models.runtimes.protocol import EngineOrder, EngineState, EngineStatus, Fault, Measured
from packers.types import GpuId, NodeId, ReplicaId

CANARY_FAILED = "it computes other tokens than it should"


class VirtualClock:
    """Time that only ``advance`` moves. ``clock()`` is the present in seconds."""

    def __init__(self, start_s: float = 1_000_000.0) -> None:
        self._now_s = start_s
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self._now_s

    async def sleep(self, duration_s: float) -> None:
        if duration_s <= 0:
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now_s + duration_s, next(self._order), woken))
        await woken

    async def advance(self, duration_s: float) -> None:
        """Move on by ``duration_s``, waking sleepers in order and letting each run until it waits again."""
        until_s = self._now_s + duration_s
        await settle()
        while self._sleepers and self._sleepers[0][0] <= until_s:
            self._now_s, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)
            await settle()
        self._now_s = until_s


async def settle(rounds: int = 20) -> None:
    """Let everything that can run without time passing run."""
    for _ in range(rounds):
        await asyncio.sleep(0)


class VirtualFleet:
    """Engines that exist only as statuses. ``start_s``, ``wake_s``, ``sleep_s``, ``stop_s``: how long each takes.

    ``fail_start`` maps a model to the sentence with which its starts fail, ``faults`` to the kind of fault.
    ``bad_layouts``: models whose starts and wakes fail the canary until one of them was started cold; of
    ``bad_weights`` even that fails. ``memory`` and ``memory_asleep``: what a model's engines say that they hold.

    Nodes and GPUs come and go by ``join_node``, ``node_away``, ``node_back``, ``lose_node``, ``node_leaving``,
    ``lose_gpu`` and ``gpu_back``: each changes what is there, and then tells the listeners. ``beside`` is the same
    world in the hands of another controller.

    A start on a node that does not answer fails at once. Whatever else concerns an engine of such a node waits for its
    return, or until it is given up.
    """

    def __init__(
        self,
        nodes: tuple[FleetNode, ...],
        clock: VirtualClock,
        *,
        start_s: float = 1.0,
        wake_s: float = 0.1,
        sleep_s: float = 0.1,
        stop_s: float = 0.1,
    ) -> None:
        self._nodes = VirtualNodes(nodes)
        self._clock = clock
        self._epoch = 0
        self.start_s, self.wake_s, self.sleep_s, self.stop_s = start_s, wake_s, sleep_s, stop_s
        self.fail_start: dict[str, str] = {}
        self.faults: dict[str, Fault] = {}
        self.bad_layouts: set[str] = set()
        self.bad_weights: set[str] = set()
        self.memory: dict[str, Measured] = {}
        self.memory_asleep: dict[str, Measured] = {}
        self.detail: dict[str, dict[str, str]] = {}
        self.tiers: dict[str, WeightsTier] = {}
        self.used_bytes: dict[str, int] = {}  # of each GPU, as a driver would say
        self.store = VirtualWeights(clock.sleep)
        self.orders: list[EngineOrder] = []
        self.engines: dict[ReplicaId, tuple[NodeId, EngineStatus]] = {}
        self.calls: list[str] = []  # "start tiny-1", in order
        self._ended_away: dict[ReplicaId, tuple[NodeId, ReplicaLost]] = {}  # which the fleet learns once it is back
        self._listeners: list[tuple[VirtualFleet, Callable[[FleetEvent], Awaitable[None]]]] = []
        self._pids = itertools.count(1000)
        self._telling: asyncio.Task[None] | None = None

    def beside(self) -> VirtualFleet:
        """The same nodes and engines, as another controller commands them: it claims and listens for itself."""
        other = copy.copy(self)  # what is in the world is shared
        other._epoch = 0
        return other

    async def claim(self, epoch: int) -> int:
        before = self._nodes.claim(epoch)
        if before < epoch:
            self._epoch = epoch
        return before

    async def nodes(self) -> tuple[FleetNode, ...]:
        return self._nodes.shown

    async def start(self, node: NodeId, order: EngineOrder) -> EngineStatus:
        self.calls.append(f"start {order.replica_id}")
        self._nodes.check_start(node, _gpu_of(order))
        self._nodes.command(node, self._epoch)
        self.orders.append(order)
        replica = ReplicaId(order.replica_id)
        status = EngineStatus(state="loading", pid=next(self._pids), order=order)
        self.engines[replica] = (node, status)
        await self._clock.sleep(self.start_s)
        await self._back(node, replica)
        if order.model_id in self.fail_start:
            self.engines.pop(replica, None)
            raise StartFailed(self.fail_start[order.model_id], self.faults.get(order.model_id, "other"))
        self._canary(replica, order)
        return self._become(replica, "ready")

    async def _back(self, node: NodeId, replica: ReplicaId) -> None:
        """Wait while the node is away. Raises StartFailed when it was given up."""
        if not await self._nodes.back(node):
            raise StartFailed(f"{node} was given up with {replica} on it")

    def _canary(self, replica: ReplicaId, order: EngineOrder) -> None:
        model = order.model_id
        if model in self.bad_weights or (model in self.bad_layouts and not order.cold):
            self.engines.pop(replica, None)
            raise StartFailed(CANARY_FAILED, "canary")
        if order.cold:
            self.bad_layouts.discard(model)

    async def adopt(self, node: NodeId, status: EngineStatus) -> EngineStatus:
        replica = ReplicaId(status.order.replica_id)
        self.calls.append(f"adopt {replica}")
        self._nodes.command(node, self._epoch)
        await self._back(node, replica)
        if replica not in self.engines:
            raise StartFailed("the engine is gone")
        if status.state == "loading":
            await self._clock.sleep(self.start_s)
            await self._back(node, replica)
            return self._become(replica, "ready")
        return self.engines[replica][1]

    async def wake(self, replica: ReplicaId) -> EngineStatus:
        self.calls.append(f"wake {replica}")
        await self._change(replica, self.wake_s)
        if replica in self.engines:
            self._canary(replica, msgspec.structs.replace(self.engines[replica][1].order, cold=False))
        return self._become(replica, "ready")

    async def sleep(self, replica: ReplicaId) -> EngineStatus:
        self.calls.append(f"sleep {replica}")
        await self._change(replica, self.sleep_s)
        return self._become(replica, "asleep")

    async def _change(self, replica: ReplicaId, lasts_s: float) -> None:
        if replica in self.engines:
            node, _ = self.engines[replica]
            await self._back(node, replica)
            self._nodes.command(node, self._epoch)
            await self._clock.sleep(lasts_s)
            await self._back(node, replica)
        else:
            await self._clock.sleep(lasts_s)

    async def stop(self, replica: ReplicaId) -> None:
        self.calls.append(f"stop {replica}")
        if replica in self.engines:
            node, _ = self.engines[replica]
            if not await self._nodes.back(node):
                return
            self._nodes.command(node, self._epoch)
        self._ended_away.pop(replica, None)
        if self.engines.pop(replica, None) is not None:
            await self._clock.sleep(self.stop_s)

    async def observe(self) -> dict[NodeId, tuple[EngineStatus, ...]]:
        return {node.id: self._engines_of(node.id) for node in self._nodes.shown}

    def _engines_of(self, node: NodeId) -> tuple[EngineStatus, ...]:
        return tuple(status for where, status in self.engines.values() if where == node)

    async def look(self, asked: Mapping[NodeId, NodeLook]) -> dict[NodeId, NodeView]:
        views = {}
        for node, look in asked.items():
            if not self._nodes.answers(node):
                continue
            here = self._engines_of(node)
            engines = tuple(self._measured(status) for status in here if status.order.control_path in look.engines)
            tiers = {model: self.tiers[model] for model in look.sources if model in self.tiers}
            gpus = {str(gpu.id) for gpu in self._nodes.get(node).shown.gpus}
            used = {gpu: used for gpu, used in self.used_bytes.items() if gpu in gpus}
            views[node] = NodeView(engines=engines, tiers=tiers, used_bytes=used)
        return views

    async def weights(self, node: NodeId, ask: Any) -> Any:
        if not self._nodes.answers(node):
            raise StartFailed(f"{node} does not answer")
        return await self.store.answer(node, ask)

    async def stop_all(self) -> int:
        ended = [replica for replica, (node, _) in self.engines.items() if self._nodes.answers(node)]
        for replica in ended:
            await self.stop(replica)
        return len(ended)

    def subscribe(self, on_event: Callable[[FleetEvent], Awaitable[None]]) -> None:
        """What stands of the nodes that are there (a GPU is lost, a node will leave) is told soon after."""
        self._listeners.append((self, on_event))
        standing = [event for node in self._nodes.shown for event in self._nodes.get(node.id).standing]
        if standing:
            self._telling = asyncio.get_running_loop().create_task(_tell_all(on_event, standing))

    async def close(self) -> None:
        self._listeners[:] = [(fleet, listener) for fleet, listener in self._listeners if fleet is not self]

    async def kill(
        self, replica: ReplicaId, reason: str = "its process was killed by signal 9", fault: Fault = "other"
    ) -> None:
        """An engine dies by itself. On a node that does not answer nobody sees it before that is back."""
        node, _ = self.engines.pop(replica, (None, None))
        lost = ReplicaLost(replica_id=replica, reason=reason, fault=fault)
        if node is None or self._nodes.answers(node):
            await self._tell(lost)
        else:
            self._ended_away[replica] = (node, lost)

    async def join_node(self, node: FleetNode) -> None:
        """For the first time, or again: with what runs there, and with these GPUs, of which some may be lost still."""
        self._nodes.join(node)
        await self._tell(NodeJoined(node=node, engines=self._engines_of(node.id)))
        for event in self._nodes.get(node.id).standing:
            await self._tell(event)
        for replica, (where, lost) in list(self._ended_away.items()):
            if where == node.id:
                del self._ended_away[replica]
                await self._tell(lost)

    async def node_away(self, node: NodeId, reason: str = "it does not answer") -> None:
        """Its engines go on, and can be neither seen nor told anything."""
        self._nodes.away(node)
        await self._tell(NodeAway(node=node, reason=reason))

    async def node_back(self, node: NodeId) -> None:
        await self.join_node(self._nodes.get(node).shown)

    async def lose_node(self, node: NodeId, reason: str = "it was given up", *, alive: bool = False) -> None:
        """``alive``: its engines run on, unseen, and are there when it joins again."""
        self._nodes.lose(node)
        for replica in [replica for replica, (where, _) in self._ended_away.items() if where == node]:
            del self._ended_away[replica]
        for replica in [replica for replica, (where, _) in self.engines.items() if where == node and not alive]:
            del self.engines[replica]
        await self._tell(NodeLost(node=node, reason=reason))

    async def node_leaving(self, node: NodeId, in_s: float, reason: str = "it is reclaimed") -> None:
        leaving = NodeLeaving(node=node, at_unix_s=self._clock() + in_s, reason=reason)
        self._nodes.get(node).leaving = leaving
        await self._tell(leaving)

    async def lose_gpu(self, gpu: GpuId, reason: str = "its driver does not list it any more") -> None:
        """Its engines compute nothing any more; they stay until they are stopped."""
        node = self._nodes.of_gpu(gpu)
        node.lost_gpus[gpu] = reason
        if node.there.is_set():
            await self._tell(GpuLost(gpu=gpu, reason=reason))

    async def gpu_back(self, gpu: GpuId) -> None:
        node = self._nodes.of_gpu(gpu)
        del node.lost_gpus[gpu]
        if node.there.is_set():
            await self._tell(GpuBack(gpu=gpu))

    async def _tell(self, event: FleetEvent) -> None:
        for _, listener in tuple(self._listeners):
            await listener(event)

    def _measured(self, status: EngineStatus) -> EngineStatus:
        model = status.order.model_id
        said = self.memory_asleep if status.state == "asleep" else self.memory
        return msgspec.structs.replace(status, measured=said.get(model), detail=self.detail.get(model, {}))

    def _become(self, replica: ReplicaId, state: EngineState) -> EngineStatus:
        if replica not in self.engines:
            raise StartFailed("the engine is gone")
        node, status = self.engines[replica]
        status = self._measured(msgspec.structs.replace(status, state=state))
        self.engines[replica] = (node, status)
        return status


async def _tell_all(listener: Callable[[FleetEvent], Awaitable[None]], events: Sequence[FleetEvent]) -> None:
    for event in events:
        await listener(event)


def _gpu_of(order: EngineOrder) -> GpuId | None:
    try:
        return Tag.decode(order.tag).gpu
    except msgspec.MsgspecError:
        return None
