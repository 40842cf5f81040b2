"""A fleet in virtual time: the same protocol as Ray's, no process and no waiting. For tests and the simulator."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from models.fleet.protocol import (
    FleetEvent,
    FleetNode,
    NodeLook,
    NodeView,
    ReplicaLost,
    StartFailed,
    WeightsTier,
)
from models.runtimes.protocol import EngineOrder, EngineState, EngineStatus, Fault, Measured
from packers.types import NodeId, ReplicaId

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
        self._nodes = nodes
        self._clock = clock
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
        self.orders: list[EngineOrder] = []
        self.engines: dict[ReplicaId, tuple[NodeId, EngineStatus]] = {}
        self.calls: list[str] = []  # "start tiny-1", in order
        self._listeners: list[Callable[[FleetEvent], Awaitable[None]]] = []
        self._pids = itertools.count(1000)

    async def nodes(self) -> tuple[FleetNode, ...]:
        return self._nodes

    async def start(self, node: NodeId, order: EngineOrder) -> EngineStatus:
        self.calls.append(f"start {order.replica_id}")
        self.orders.append(order)
        replica = ReplicaId(order.replica_id)
        self.engines[replica] = (node, EngineStatus(state="loading", pid=next(self._pids), order=order))
        await self._clock.sleep(self.start_s)
        if order.model_id in self.fail_start:
            self.engines.pop(replica, None)
            raise StartFailed(self.fail_start[order.model_id], self.faults.get(order.model_id, "other"))
        self._canary(replica, order)
        return self._become(replica, "ready")

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
        if replica not in self.engines:
            raise StartFailed("the engine is gone")
        if status.state == "loading":
            await self._clock.sleep(self.start_s)
            return self._become(replica, "ready")
        return self.engines[replica][1]

    async def wake(self, replica: ReplicaId) -> EngineStatus:
        self.calls.append(f"wake {replica}")
        await self._clock.sleep(self.wake_s)
        if replica in self.engines:
            self._canary(replica, msgspec.structs.replace(self.engines[replica][1].order, cold=False))
        return self._become(replica, "ready")

    async def sleep(self, replica: ReplicaId) -> EngineStatus:
        self.calls.append(f"sleep {replica}")
        await self._clock.sleep(self.sleep_s)
        return self._become(replica, "asleep")

    async def stop(self, replica: ReplicaId) -> None:
        self.calls.append(f"stop {replica}")
        if self.engines.pop(replica, None) is not None:
            await self._clock.sleep(self.stop_s)

    async def observe(self) -> dict[NodeId, tuple[EngineStatus, ...]]:
        found: dict[NodeId, list[EngineStatus]] = {node.id: [] for node in self._nodes}
        for node, status in self.engines.values():
            found[node].append(status)
        return {node: tuple(statuses) for node, statuses in found.items()}

    async def look(self, asked: Mapping[NodeId, NodeLook]) -> dict[NodeId, NodeView]:
        views = {}
        for node, look in asked.items():
            here = [status for where, status in self.engines.values() if where == node]
            engines = tuple(self._measured(status) for status in here if status.order.control_path in look.engines)
            tiers = {model: self.tiers[model] for model in look.sources if model in self.tiers}
            views[node] = NodeView(engines=engines, tiers=tiers, used_bytes=dict(self.used_bytes))
        return views

    async def stop_all(self) -> int:
        ended = list(self.engines)
        for replica in ended:
            await self.stop(replica)
        return len(ended)

    def subscribe(self, on_event: Callable[[FleetEvent], Awaitable[None]]) -> None:
        self._listeners.append(on_event)

    async def close(self) -> None:
        self._listeners.clear()

    async def kill(
        self, replica: ReplicaId, reason: str = "its process was killed by signal 9", fault: Fault = "other"
    ) -> None:
        """An engine dies by itself."""
        self.engines.pop(replica, None)
        for listener in self._listeners:
            await listener(ReplicaLost(replica_id=replica, reason=reason, fault=fault))

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
