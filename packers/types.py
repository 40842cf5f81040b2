"""The nouns of packing. All frozen; every size is in bytes, every time in seconds of the caller's clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

ModelId = NewType("ModelId", str)
ReplicaId = NewType("ReplicaId", str)
GpuId = NewType("GpuId", str)  # "<node>/<index>", unique in the cluster
NodeId = NewType("NodeId", str)


class ReplicaState(StrEnum):
    """Life of a replica: starting -> ready -> draining -> asleep -> starting (wake) ... -> dead."""

    STARTING = "starting"
    READY = "ready"
    ASLEEP = "asleep"
    DRAINING = "draining"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one replica needs, by kind.

    While it serves it holds ``gpu_bytes`` on its GPU; while it sleeps ``residue_bytes`` stay on the GPU and
    ``host_bytes`` of the node's RAM hold the weights.
    """

    weights_bytes: int
    kv_cache_bytes: int
    overhead_bytes: int
    residue_bytes: int = 0
    host_bytes: int = 0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 0:
                raise ValueError(f"footprint.{name} must not be negative, got {getattr(self, name)}")

    @property
    def gpu_bytes(self) -> int:
        return self.weights_bytes + self.kv_cache_bytes + self.overhead_bytes


@dataclass(frozen=True, slots=True)
class Gpu:
    id: GpuId
    node: NodeId
    index: int
    memory_bytes: int
    name: str = "simulated"
    simulated: bool = True


@dataclass(frozen=True, slots=True)
class Node:
    """``host_bytes``: host RAM that sleeping replicas of this node may hold together."""

    id: NodeId
    host_bytes: int


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


@dataclass(frozen=True, slots=True)
class Demand:
    """What all gateways together see of a model. ``held`` requests wait for a replica."""

    in_flight: int = 0
    held: int = 0
    oldest_wait_s: float = 0.0
    operator_wake: bool = False

    @property
    def present(self) -> bool:
        return self.in_flight > 0 or self.held > 0 or self.operator_wake


@dataclass(frozen=True, slots=True)
class Model:
    """A catalog entry as policies see it, with its current demand."""

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


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The world at ``now_s``. Ordered tuples, so that equal worlds give equal plans."""

    id: str
    now_s: float
    gpus: tuple[Gpu, ...]
    nodes: tuple[Node, ...]
    replicas: tuple[Replica, ...]
    models: tuple[Model, ...]


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
    model: ModelId
    gpu: GpuId
    footprint: Footprint
    reason: str
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Wake:
    replica: ReplicaId
    model: ModelId
    gpu: GpuId
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


Action = Start | Wake | Sleep | Stop | Hold | Refuse


@dataclass(frozen=True, slots=True)
class Plan:
    """Ordered actions decided from one snapshot."""

    snapshot_id: str
    actions: tuple[Action, ...]
