"""What a simulation found. Plain data: ``SimResult.to_json`` gives what ``json.dumps`` takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from packers.types import GpuId, ModelId, NodeId, PoolId, ReplicaId, ReplicaState

LONG_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Waits:
    """From arrival until a replica begins (or the request times out), over all requests that were not refused."""

    mean_s: float = 0.0
    p50_s: float = 0.0
    p90_s: float = 0.0
    p95_s: float = 0.0
    p99_s: float = 0.0
    p999_s: float = 0.0
    max_s: float = 0.0
    over_5s_share: float = 0.0

    @classmethod
    def of(cls, waits_s: npt.NDArray[np.float64]) -> Waits:
        if not waits_s.size:
            return cls()
        p50_s, p90_s, p95_s, p99_s, p999_s = np.quantile(waits_s, (0.5, 0.9, 0.95, 0.99, 0.999)).tolist()
        long_share = float(np.count_nonzero(waits_s > LONG_WAIT_S) / waits_s.size)
        return cls(float(waits_s.mean()), p50_s, p90_s, p95_s, p99_s, p999_s, float(waits_s.max()), long_share)


@dataclass(frozen=True, slots=True)
class GpuHours:
    """``provisioned``: there to be used. ``occupied``: with a replica that is not asleep. ``resident``: with anything
    on it, also what sleepers leave behind. ``replica``: of replicas that were not asleep, times their GPUs."""

    provisioned: float = 0.0
    occupied: float = 0.0
    resident: float = 0.0
    replica: float = 0.0


@dataclass(frozen=True, slots=True)
class PoolResult:
    """``paid_hours``: of an owned pool all provisioned GPU-hours, of a rented one those with anything resident."""

    pool: PoolId
    paid_hours: float
    money: float


@dataclass(frozen=True, slots=True)
class ModelResult:
    model: ModelId
    requests: int
    delayed: int
    timed_out: int
    refused: int
    failed: int
    wait_p99_s: float
    wait_max_s: float
    starts_disk: int
    starts_host: int
    load_s: float
    evictions: int


@dataclass(frozen=True, slots=True)
class MemoryPoint:
    """From ``at_s`` on the replica holds ``gpu_bytes`` of the GPU, in ``state``, until its next point; 0: it left."""

    at_s: float
    gpu: GpuId
    replica: ReplicaId
    model: ModelId
    state: ReplicaState
    gpu_bytes: int


@dataclass(frozen=True, slots=True)
class GpuRow:
    """A GPU that took part, for pictures of memory over time."""

    gpu: GpuId
    node: NodeId
    pool: PoolId
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Decided:
    """An action that was carried out, in the words of the plan."""

    at_s: float
    action: str  # start, wake, sleep, stop, resize, refuse
    model: ModelId
    gpu: GpuId | None
    replica: ReplicaId | None
    reason: str


@dataclass(frozen=True, slots=True)
class Decisions:
    """``count``: how often was decided; ``causes``: why then; ``actions``: how many of each kind came out."""

    count: int = 0
    causes: Mapping[str, int] = field(default_factory=dict)
    actions: Mapping[str, int] = field(default_factory=dict)
    last: tuple[Decided, ...] = ()  # the last ones, at most options.reasons


@dataclass(frozen=True, slots=True)
class SimResult:
    """``delayed``: requests that arrived while no replica of their model was ready; ``queued``: while all ready ones
    were full. Every request is served, timed out, refused or failed. ``starts_disk``, ``starts_host``: starts of a
    process, and wakes; ``load_s``: how long those took together, without waiting for their turn.
    ``moves``: replicas started in another's place or woken elsewhere. ``decide_s``: wall time, with a stopwatch.
    """

    seed: int
    end_s: float
    requests: int
    served: int
    timed_out: int
    refused: int
    failed: int
    delayed: int
    queued: int
    waits: Waits
    starts_disk: int
    starts_host: int
    failed_starts: int
    load_s: float
    evictions: int
    moves: int
    sleeps: int
    stops: int
    resizes: int
    hours: GpuHours
    pools: tuple[PoolResult, ...]
    models: tuple[ModelResult, ...]
    gpus: tuple[GpuRow, ...]
    memory: tuple[MemoryPoint, ...]
    decisions: Decisions
    decide_s: float | None = field(default=None, compare=False)
    waits_s: npt.NDArray[np.float64] | None = field(default=None, compare=False, repr=False)  # NaN: refused

    @property
    def delayed_share(self) -> float:
        return self.delayed / self.requests if self.requests else 0.0

    @property
    def loads(self) -> int:
        return self.starts_disk + self.starts_host

    @property
    def money(self) -> float:
        return sum(pool.money for pool in self.pools)

    def to_json(self) -> dict[str, Any]:
        """Everything but the single waits, and the properties."""
        found = asdict(self)
        del found["waits_s"]
        return found | {"delayed_share": self.delayed_share, "loads": self.loads, "money": self.money}
