"""What a move is, what it costs and gains, and how much of it is allowed at a time.

Two currencies meet in the test of whether a move pays. Its gain is in GPUs: how much fuller the full ones and emptier
the empty ones get (``packers.defrag.search``). Its cost is in GPU-seconds: memory held twice while the substitute
starts, and seconds during which its model is not served. ``Budget.payback_s`` joins them: a GPU gained is counted for
that long, after which arrivals and departures are taken to have undone the order that the move made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import isfinite

from packers.types import Footprint, GpuId, ModelId, Replica, ReplicaId, Start, Stop

PAYBACK_S = 600.0
UNAVAILABLE_WEIGHT = 10.0  # GPU-seconds that one second without a serving replica of a model is worth
SETTLE_S = 60.0


class Way(StrEnum):
    OVERLAP = "overlap"  # the substitute serves before the old one leaves: no gap, memory held twice
    GAP = "gap"  # the old one leaves first, for want of memory: nobody serves meanwhile


@dataclass(frozen=True, slots=True)
class Budget:
    """What one step may do, what is under way already included. Raises ValueError, naming the field.

    ``moves``: replicas on the move at once. ``moved_bytes``: weights loaded for them, None for any number.
    ``payback_s``: seconds for which a gain is counted. ``settle_s``: a replica stays where it is for so long after it
    became ready. ``busy``: whether one with requests in flight may move; it finishes them where it is. ``at_once``: of
    the moves that are planned so many are made at a time, None for all of them. ``stay``: replicas that do not move.
    """

    moves: int = 1
    moved_bytes: int | None = None
    payback_s: float = PAYBACK_S
    settle_s: float = SETTLE_S
    busy: bool = False
    at_once: int | None = None
    stay: tuple[ReplicaId, ...] = ()

    def __post_init__(self) -> None:
        if self.moves < 0:
            raise ValueError(f"budget.moves must not be negative, got {self.moves}")
        if self.moved_bytes is not None and not self.moved_bytes >= 0:
            raise ValueError(f"budget.moved_bytes must not be negative (None: no limit), got {self.moved_bytes}")
        if self.at_once is not None and self.at_once < 1:
            raise ValueError(f"budget.at_once must be at least 1 (None: all that are planned), got {self.at_once}")
        for name in ("payback_s", "settle_s"):
            value = getattr(self, name)
            if not (value >= 0 and isfinite(value)):
                raise ValueError(f"budget.{name} must be a finite number of at least 0, got {value}")


@dataclass(frozen=True, slots=True)
class Move:
    """One replica from ``source`` to ``target`` (several GPUs for a tensor-parallel group).

    ``moved_bytes``: weights that the target loads. ``start_s``: from the order until the substitute serves.
    ``unavailable_s``: how long its model is not served because of the move. ``after``: replicas whose moves have to be
    done before there is room for this one. A move may be ordered now if that is empty.
    """

    replica: ReplicaId
    model: ModelId
    source: tuple[GpuId, ...]
    target: tuple[GpuId, ...]
    footprint: Footprint
    way: Way
    moved_bytes: int
    start_s: float
    unavailable_s: float
    gain_gpus: float
    cost_gpu_s: float
    reason: str
    after: tuple[ReplicaId, ...] = field(default=())

    @property
    def start(self) -> Start:
        """The substitute; of a gap it names nobody, for the old one is gone by then."""
        replaces = self.replica if self.way is Way.OVERLAP else None
        return Start(
            self.model,
            self.target[0],
            self.footprint,
            self.reason,
            peers=self.target[1:],
            replaces=replaces,
            gain_gpus=self.gain_gpus,
            cost_gpu_s=self.cost_gpu_s,
        )

    @property
    def stop(self) -> Stop:
        """Of the old one: once the substitute serves, or first if there is a gap."""
        return Stop(self.replica, self.model, self.source[0], self.reason)


def moved_bytes(replica: Replica) -> int:
    """Weights that a substitute loads. The KV cache does not move: its requests finish where they are."""
    return replica.footprint.weights_bytes * len(replica.gpus)
