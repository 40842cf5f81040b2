"""The nouns of packing. All frozen; every size is in bytes, every time in seconds of the caller's clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from packers.load import NO_LOAD, NO_MEMORY, Load, ScaleMemory
from packers.usage import UNUSED, Usage

ModelId = NewType("ModelId", str)
ReplicaId = NewType("ReplicaId", str)
GpuId = NewType("GpuId", str)  # "<node>/<index>", unique in the cluster
NodeId = NewType("NodeId", str)
PoolId = NewType("PoolId", str)

OWNED = PoolId("owned")


class ReplicaState(StrEnum):
    """Life of a replica: starting -> ready -> draining -> asleep -> starting (wake) ... -> dead."""

    STARTING = "starting"
    READY = "ready"
    ASLEEP = "asleep"
    DRAINING = "draining"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one replica needs, by kind. Of a tensor-parallel group: what it needs on each of its GPUs.

    While it serves it holds ``gpu_bytes`` on its GPU; while it sleeps ``residue_bytes`` stay on the GPU and
    ``host_bytes`` of the node's RAM hold the weights. ``kv_cache_bytes`` is the wish (of a replica: what it got), and
    it may be as little as ``kv_min_bytes`` (None: the wish is the minimum). ``compute_milli``: thousandths of a GPU's
    compute that it claims, ``cpu_milli``: thousandths of a CPU core of the node.
    """

    weights_bytes: int
    kv_cache_bytes: int
    overhead_bytes: int
    residue_bytes: int = 0
    host_bytes: int = 0
    kv_min_bytes: int | None = None
    compute_milli: int = 0
    cpu_milli: int = 0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None and not value >= 0:  # "not >=" refuses NaN, too
                raise ValueError(f"footprint.{name} must not be negative, got {value}")
        if self.kv_min_bytes is not None and self.kv_min_bytes > self.kv_cache_bytes:
            wish = self.kv_cache_bytes
            raise ValueError(f"footprint.kv_min_bytes must not exceed kv_cache_bytes ({wish}), got {self.kv_min_bytes}")

    @property
    def gpu_bytes(self) -> int:
        return self.weights_bytes + self.kv_cache_bytes + self.overhead_bytes

    @property
    def gpu_min_bytes(self) -> int:
        """With its KV cache shrunk to the minimum."""
        kv_bytes = self.kv_cache_bytes if self.kv_min_bytes is None else self.kv_min_bytes
        return self.weights_bytes + kv_bytes + self.overhead_bytes


class PoolKind(StrEnum):
    OWNED = "owned"  # paid for whether used or not
    BURST = "burst"  # rented by the second
    SPOT = "spot"  # rented cheaply, and taken away at short notice


@dataclass(frozen=True, slots=True)
class Pool:
    """GPUs of one kind of contract. ``reclaims_per_hour``: how often a GPU of it is taken away, on average."""

    id: PoolId
    kind: PoolKind = PoolKind.OWNED
    price_per_gpu_hour: float = 0.0
    reclaims_per_hour: float = 0.0


@dataclass(frozen=True, slots=True)
class StartTimes:
    """Seconds from the order to a ready replica: ``disk_s`` without a process, from where its weights are now (page
    cache, disk, elsewhere), ``host_s`` out of its sleep in RAM."""

    disk_s: float = 10.0
    host_s: float = 1.0


DEFAULT_START = StartTimes()


@dataclass(frozen=True, slots=True)
class Gpu:
    id: GpuId
    node: NodeId
    index: int
    memory_bytes: int
    name: str = "simulated"
    simulated: bool = True
    compute_milli: int = 1000
    pool: PoolId = OWNED
    cordoned: bool = False  # an operator wants it empty: nothing new goes there, what is there leaves
    closed: str = ""  # why nothing new goes there, though what is there may stay; "": it is open

    @property
    def shut(self) -> bool:
        """Nothing new goes there."""
        return self.cordoned or bool(self.closed)


@dataclass(frozen=True, slots=True)
class Node:
    """``host_bytes``: host RAM that sleeping replicas of this node may hold together.

    ``cpu_milli``: thousandths of CPU cores, 0 where they are not counted. ``link_bytes_per_s``: from host RAM to its
    GPUs, shared by them; 0 where it was not measured.
    """

    id: NodeId
    host_bytes: int
    cpu_milli: int = 0
    link_bytes_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Replica:
    id: ReplicaId
    model: ModelId
    gpu: GpuId
    state: ReplicaState
    footprint: Footprint
    in_flight: int = 0
    last_used_s: float = 0.0
    state_since_s: float = 0.0
    pinned: bool = False
    priority: int = 0
    # ASLEEP or DEAD while DRAINING; DEAD while ASLEEP for a sleeping one that is being ended: it still holds its
    # residue and host bytes, but not gpu_bytes as a DRAINING one does.
    draining_to: ReplicaState | None = None
    peers: tuple[GpuId, ...] = ()  # the other GPUs of its tensor-parallel group, on the same node
    replaces: ReplicaId | None = None  # it was started to take that one's place: that one leaves once this one serves

    @property
    def gpus(self) -> tuple[GpuId, ...]:
        return (self.gpu, *self.peers)


@dataclass(frozen=True, slots=True)
class Demand:
    """What all gateways together see of a model. ``held`` requests wait for a replica.

    ``earliest_deadline_s``: when the first of them gives up, in the snapshot's clock.
    """

    in_flight: int = 0
    held: int = 0
    oldest_wait_s: float = 0.0
    operator_wake: bool = False
    earliest_deadline_s: float | None = None

    @property
    def present(self) -> bool:
        return self.in_flight > 0 or self.held > 0 or self.operator_wake


@dataclass(frozen=True, slots=True)
class Model:
    """A catalog entry as policies see it, with its current demand and what is known of its past.

    ``tensor_parallel``: GPUs of one node that a replica spans; its footprint then holds for each of them.
    ``gpu_types``: names of the GPUs it runs on; empty for any. ``affinity``: models on whose nodes it wants to be.
    ``anti_affinity``: models with which it shares no node; its own id keeps its replicas on different nodes.
    ``wakes_anywhere``: asleep it can wake on any GPU of its node, not just where it fell asleep.
    ``groups``: those to which memory may be guaranteed that it is in (``packers.guarantees``).
    ``floor_why``: why ``min_replicas`` is raised for a while; "": it is as its card says.
    ``avoid``: GPUs on which it could not be started lately; it goes there when nowhere else can room be made.
    ``near``: nodes that have its weights, where bringing them to others takes long; it would rather be there.
    ``resizes``: its KV cache can grow and shrink while it serves. ``wait_s``: what a request may wait at most, for
    autoscaling; None: a share of a start (``packers.load.aim_for``).
    """

    id: ModelId
    footprint: Footprint
    min_replicas: int = 0
    max_replicas: int = 1
    ttl_s: float = 600.0
    priority: int = 0
    pinned: bool = False
    can_sleep: bool = True
    target_in_flight: int = 32  # wanted requests in flight per replica
    demand: Demand = field(default_factory=Demand)
    retry_at_s: float = 0.0  # after a failed start: not before this time
    tensor_parallel: int = 1
    gpu_types: tuple[str, ...] = ()
    affinity: tuple[ModelId, ...] = ()
    anti_affinity: tuple[ModelId, ...] = ()
    wakes_anywhere: bool = False
    resizes: bool = False
    startup: StartTimes = DEFAULT_START
    usage: Usage = UNUSED
    load: Load = NO_LOAD
    scale_memory: ScaleMemory = NO_MEMORY
    wait_s: float | None = None
    avoid: tuple[GpuId, ...] = ()
    near: tuple[NodeId, ...] = ()
    floor_why: str = ""
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Guarantee:
    """``gpu_bytes`` of a GPU that only models of the group may hold (``packers.guarantees``)."""

    group: str
    gpu: GpuId
    gpu_bytes: int

    def __post_init__(self) -> None:
        if not self.gpu_bytes >= 0:
            raise ValueError(f"guarantee of {self.group} on {self.gpu}: gpu_bytes is negative: {self.gpu_bytes}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The world at ``now_s``. Ordered tuples, so that equal worlds give equal plans.

    ``swapped``: when replicas were last evicted from a GPU for others, of those where that is not long ago.
    """

    id: str
    now_s: float
    gpus: tuple[Gpu, ...]
    nodes: tuple[Node, ...]
    replicas: tuple[Replica, ...]
    models: tuple[Model, ...]
    pools: tuple[Pool, ...] = ()
    guarantees: tuple[Guarantee, ...] = ()
    swapped: tuple[tuple[GpuId, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """One GPU that was looked at: its score (lower is better), or why it was rejected."""

    gpu: GpuId
    free_bytes: int
    score: float | None = None
    rejected: str | None = None


@dataclass(frozen=True, slots=True)
class NoFit:
    """Why a footprint cannot be placed now. ``ever`` is False when no GPU could hold it even if empty."""

    model: ModelId
    needs_bytes: int
    largest_gpu_bytes: int
    ever: bool
    gpu: GpuId | None = None  # the GPU that came closest
    short_bytes: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """``gain_gpus``, ``cost_gpu_s``: of a move that pays (``packers.defrag.moves.Move``); of any other start 0."""

    model: ModelId
    gpu: GpuId
    footprint: Footprint
    reason: str
    candidates: tuple[Candidate, ...] = ()
    peers: tuple[GpuId, ...] = ()
    replaces: ReplicaId | None = None
    gain_gpus: float = 0.0
    cost_gpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Wake:
    """``gpu``: where it wakes; another one than where it sleeps only if its model ``wakes_anywhere``."""

    replica: ReplicaId
    model: ModelId
    gpu: GpuId
    reason: str
    peers: tuple[GpuId, ...] = ()


@dataclass(frozen=True, slots=True)
class Resize:
    """Give a serving replica's KV cache ``kv_cache_bytes`` on each of its GPUs."""

    replica: ReplicaId
    model: ModelId
    gpu: GpuId
    kv_cache_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Sleep:
    """Drain, then give the GPU bytes back and keep the weights in host RAM."""

    replica: ReplicaId
    model: ModelId
    gpu: GpuId
    reason: str
    evicted_for: ModelId | None = None
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Stop:
    """Drain if it serves, then end the process."""

    replica: ReplicaId
    model: ModelId
    gpu: GpuId
    reason: str
    evicted_for: ModelId | None = None
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing can be done for this model now; it is asked again at the next event."""

    model: ModelId
    reason: str
    no_fit: NoFit | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """This model can never be placed on the present GPUs."""

    model: ModelId
    reason: str
    no_fit: NoFit


Action = Start | Wake | Sleep | Stop | Resize | Hold | Refuse


@dataclass(frozen=True, slots=True)
class Plan:
    """Ordered actions decided from one snapshot. ``memories``: what autoscaling wants to be told the next time."""

    snapshot_id: str
    actions: tuple[Action, ...]
    memories: tuple[tuple[ModelId, ScaleMemory], ...] = ()
