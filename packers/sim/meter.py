"""What is counted while a simulation runs, apart from the requests."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from packers.ledger import holds
from packers.sim.result import Decided, Decisions, GpuHours, GpuRow, MemoryPoint, PoolResult
from packers.sim.timeline import Timeline
from packers.types import Gpu, GpuId, ModelId, Pool, PoolId, PoolKind, Replica, ReplicaState

HOUR_S = 3600.0


@dataclass(eq=False, slots=True)
class _GpuMeter:
    """Counts of what is on the GPU now, and seconds so far with at least one of each."""

    gpu: Gpu
    since_s: float
    present: int = 1
    awake: int = 0
    resident: int = 0
    present_s: float = 0.0
    occupied_s: float = 0.0
    resident_s: float = 0.0
    replica_s: float = 0.0

    def catch_up(self, now_s: float) -> None:
        passed_s, self.since_s = now_s - self.since_s, now_s
        self.present_s += passed_s * self.present
        self.occupied_s += passed_s if self.awake else 0.0
        self.resident_s += passed_s if self.resident else 0.0
        self.replica_s += passed_s * self.awake


@dataclass(eq=False, slots=True)
class Meter:
    timeline: Timeline
    last: deque[Decided]
    gpus: dict[GpuId, _GpuMeter] = field(default_factory=dict)
    decisions: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    starts_disk: Counter[ModelId] = field(default_factory=Counter)
    starts_host: Counter[ModelId] = field(default_factory=Counter)
    load_s: dict[ModelId, float] = field(default_factory=dict)
    evictions: Counter[ModelId] = field(default_factory=Counter)
    failed_starts: int = 0
    moves: int = 0
    decide_s: float = 0.0

    def gpu_joined(self, gpu: Gpu, now_s: float) -> None:
        known = self.gpus.get(gpu.id)
        if known is None:
            self.gpus[gpu.id] = _GpuMeter(gpu, now_s)
        else:
            known.catch_up(now_s)
            known.present = 1

    def gpu_lost(self, gpu: GpuId, now_s: float) -> None:
        self.gpus[gpu].catch_up(now_s)
        self.gpus[gpu].present = 0

    def replica(self, before: Replica | None, after: Replica | None, now_s: float) -> None:
        """A replica came, changed or went."""
        if before is not None:
            self._count(before, -1, now_s)
        if after is not None:
            self._count(after, +1, now_s)
        self._draw(before, after, now_s)

    def _count(self, replica: Replica, sign: int, now_s: float) -> None:
        held_bytes, _ = holds(replica)
        for gpu in replica.gpus:
            there = self.gpus[gpu]
            there.catch_up(now_s)
            there.awake += sign * (replica.state is not ReplicaState.ASLEEP)
            there.resident += sign * (held_bytes > 0)

    def _draw(self, before: Replica | None, after: Replica | None, now_s: float) -> None:
        if before is not None and (after is None or after.gpus != before.gpus):
            for gpu in before.gpus:
                self.timeline.add(MemoryPoint(now_s, gpu, before.id, before.model, ReplicaState.DEAD, 0))
        if after is not None:
            held_bytes, _ = holds(after)
            for gpu in after.gpus:
                self.timeline.add(MemoryPoint(now_s, gpu, after.id, after.model, after.state, held_bytes))

    def hours(self, end_s: float) -> GpuHours:
        for one in self.gpus.values():
            one.catch_up(end_s)
        found = [self.gpus[gpu] for gpu in sorted(self.gpus)]
        return GpuHours(
            provisioned=sum(one.present_s for one in found) / HOUR_S,
            occupied=sum(one.occupied_s for one in found) / HOUR_S,
            resident=sum(one.resident_s for one in found) / HOUR_S,
            replica=sum(one.replica_s for one in found) / HOUR_S,
        )

    def pools(self, pools: Iterable[Pool]) -> tuple[PoolResult, ...]:
        """After ``hours``. A pool that was not described is owned and costs nothing."""
        known = {pool.id: pool for pool in pools}
        paid_s: dict[PoolId, float] = dict.fromkeys(known, 0.0)
        for gpu in sorted(self.gpus):
            one = self.gpus[gpu]
            pool = known.setdefault(one.gpu.pool, Pool(one.gpu.pool))
            seconds = one.present_s if pool.kind is PoolKind.OWNED else one.resident_s
            paid_s[pool.id] = paid_s.get(pool.id, 0.0) + seconds
        return tuple(
            PoolResult(pool, seconds / HOUR_S, seconds / HOUR_S * known[pool].price_per_gpu_hour)
            for pool, seconds in sorted(paid_s.items())
        )

    def rows(self) -> tuple[GpuRow, ...]:
        found = (self.gpus[gpu].gpu for gpu in sorted(self.gpus))
        return tuple(GpuRow(gpu.id, gpu.node, gpu.pool, gpu.memory_bytes) for gpu in found)

    def decided(self) -> Decisions:
        return Decisions(
            self.decisions, dict(sorted(self.causes.items())), dict(sorted(self.actions.items())), tuple(self.last)
        )
