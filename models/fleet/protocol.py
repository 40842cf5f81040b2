"""The seam between the control loop and the world: Ray in production, virtual time in tests and the simulator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, Protocol

import msgspec

from models.runtimes.protocol import EngineOrder, EngineStatus, Fault
from packers.types import Gpu, GpuId, NodeId, ReplicaId

# Where the weights of a stopped model are for a node, the quickest first. ``peer``: on another node of the cluster.
WeightsTier = Literal["page_cache", "disk", "peer", "remote"]


class FleetNode(msgspec.Struct, frozen=True, kw_only=True):
    id: NodeId
    address: str
    host_bytes: int  # host RAM that sleeping replicas may hold
    gpus: tuple[Gpu, ...]
    run_dir: str  # where sockets of this node's engines live
    link_bytes_per_s: float = 0.0  # from host RAM to each of its GPUs; 0: not known
    simulated: bool = True  # its GPUs are


class NodeLook(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be looked at on a node. ``engines``: control sockets. ``sources``: model -> folder of its weights."""

    engines: tuple[str, ...] = ()
    sources: dict[str, str] = {}


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. ``engines``: those that answered, with their memory as it is now. ``tiers``: of each model that
    was asked for. ``used_bytes``: of each GPU, by its driver's word; empty where there is no driver to ask."""

    engines: tuple[EngineStatus, ...] = ()
    tiers: dict[str, WeightsTier] = {}
    used_bytes: dict[str, int] = {}


class ReplicaLost(msgspec.Struct, frozen=True, kw_only=True):
    """A replica's process ended without being asked to."""

    replica_id: ReplicaId
    reason: str
    fault: Fault = "other"  # what the engine itself said, where it had the time


class NodeLost(msgspec.Struct, frozen=True, kw_only=True):
    node: NodeId
    reason: str


class NodeJoined(msgspec.Struct, frozen=True, kw_only=True):
    """A node is there: for the first time, again after it was away, or with other GPUs than before. ``engines``: those
    alive on it."""

    node: FleetNode
    engines: tuple[EngineStatus, ...] = ()


class NodeAway(msgspec.Struct, frozen=True, kw_only=True):
    """A node does not answer the fleet. Its engines may well serve: NodeJoined or NodeLost comes next."""

    node: NodeId
    reason: str


class NodeLeaving(msgspec.Struct, frozen=True, kw_only=True):
    """A node will be taken away (a spot reclaim, a shutdown): by then nothing should be on it."""

    node: NodeId
    at_unix_s: float
    reason: str


class GpuLost(msgspec.Struct, frozen=True, kw_only=True):
    """Its driver does not list it any more, or reports an error after which it computes nothing."""

    gpu: GpuId
    reason: str


class GpuBack(msgspec.Struct, frozen=True, kw_only=True):
    gpu: GpuId


FleetEvent = ReplicaLost | NodeLost | NodeJoined | NodeAway | NodeLeaving | GpuLost | GpuBack


class StartFailed(Exception):
    """A replica could not be started or woken; the message is one clear sentence fit for callers."""

    def __init__(self, message: str, fault: Fault = "other") -> None:
        super().__init__(message)
        self.fault = fault


class Superseded(Exception):
    """A node has heard a later controller: this one must stop. ``epoch``: of that one."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"a node obeys controller {epoch}")
        self.epoch = epoch

    def __reduce__(self) -> tuple[type[Superseded], tuple[int]]:
        return type(self), (self.epoch,)  # it crosses Ray


class Fleet(Protocol):
    """All side effects on nodes and engines. Every method may be called concurrently for different replicas.

    After ``claim`` every method that changes something raises Superseded once a node obeys a later controller.
    """

    async def claim(self, epoch: int) -> int:
        """Be obeyed as controller ``epoch`` from now on, by all nodes, also those that join later. The highest epoch
        that any node had obeyed before; if that is not below ``epoch``, nothing was claimed: claim a higher one."""

    async def nodes(self) -> tuple[FleetNode, ...]: ...

    async def start(self, node: NodeId, order: EngineOrder) -> EngineStatus:
        """Start an engine and return once it is ready. Raises StartFailed."""

    async def adopt(self, node: NodeId, status: EngineStatus) -> EngineStatus:
        """Take over an engine found by ``observe``: watch it, renew its lease. Raises StartFailed if it is gone."""

    async def wake(self, replica: ReplicaId) -> EngineStatus:
        """Raises StartFailed."""

    async def sleep(self, replica: ReplicaId) -> EngineStatus:
        """Raises StartFailed when the engine is gone."""

    async def stop(self, replica: ReplicaId) -> None:
        """End the engine's process; returns once its memory is free. Succeeds if it is gone already."""

    async def observe(self) -> dict[NodeId, tuple[EngineStatus, ...]]:
        """Every engine alive on every reachable node, as it speaks of itself."""

    async def look(self, asked: Mapping[NodeId, NodeLook]) -> dict[NodeId, NodeView]:
        """Measure. Nodes and engines that do not answer are left out."""

    async def weights(self, node: NodeId, ask: Any) -> Any:
        """Ask a node about weights, or have it fetch some: the questions and their answers are in
        ``models.fleet.supply``. Raises StartFailed, also while the node does not answer."""

    async def stop_all(self) -> int:
        """End every engine of every reachable node; how many there were. No losses are reported for them."""

    def subscribe(self, on_event: Callable[[FleetEvent], Awaitable[None]]) -> None: ...

    async def close(self) -> None: ...
