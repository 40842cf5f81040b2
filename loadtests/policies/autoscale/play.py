"""One model's traffic through the simulator: production's own decisions, on rented GPUs of which there are enough.

What is in flight and held is reported every 0.1 s, and decided on every ``tick_s``. GPU-hours count from the order of a
replica to its end, start-up times included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from packers.autoscale.demand import utilised
from packers.autoscale.registry import AUTOSCALING
from packers.autoscale.wrap import bounded, delayed
from packers.decide import Policies
from packers.load import Aim
from packers.sim import SimOptions, SimResult, SimWorld, StartUp, Trace, cluster, simulate
from packers.types import Footprint, Model, ModelId, Pool, PoolId, PoolKind, Replica, ReplicaId, ReplicaState

REPORT_S = 0.1
MOST_REPLICAS = 400
NAME = ModelId("model")
FOOTPRINT = Footprint(weights_bytes=1, kv_cache_bytes=0, overhead_bytes=0)
RENTED = Pool(PoolId("rented"), PoolKind.BURST)
FIXED = "demand"  # whatever it asks for, min_replicas and max_replicas leave it no choice
HOLD_60S = "utilised-60s"
ALL_REASONS = 1_000_000
AUTOSCALING.setdefault(HOLD_60S, bounded(delayed(utilised(0.7), down_s=60.0)))


@dataclass(frozen=True, slots=True)
class Run:
    p99_wait_s: float
    late_share: float  # longer than the aim's wait_s
    gpu_hours: float
    most: int  # replicas at once
    starts: int


@dataclass(frozen=True, slots=True)
class Scaler:
    """``policy``: its name in AUTOSCALING. ``least``, ``most``: replicas; ``begin``: ready ones in the beginning."""

    policy: str
    tick_s: float = 0.1
    least: int = 1
    most: int = MOST_REPLICAS
    begin: int = 1


def fixed(size: int) -> Scaler:
    return Scaler(FIXED, tick_s=0.0, least=size, most=size, begin=size)


def play(at_s: Sequence[float], service_s: Sequence[float], aim: Aim, scaler: Scaler) -> Run:
    trace = Trace.of([NAME], at_s, np.zeros(len(at_s), np.int32), service_s)
    report_s = REPORT_S if scaler.tick_s > REPORT_S else 0.0
    options = SimOptions(
        slots=aim.slots,
        tick_s=scaler.tick_s,
        report_s=report_s,
        keep_waits=True,
        memory_points=0,
        reasons=ALL_REASONS,
    )
    found = simulate(trace, _world(aim, scaler), Policies(scaling=scaler.policy), options)
    assert found.waits_s is not None
    return Run(
        p99_wait_s=found.waits.p99_s,
        late_share=float(np.mean(found.waits_s > aim.wait_s)),
        gpu_hours=found.hours.replica,
        most=_most(found, scaler.begin),
        starts=found.starts_disk,
    )


def _world(aim: Aim, scaler: Scaler) -> SimWorld:
    model = Model(
        NAME,
        FOOTPRINT,
        min_replicas=scaler.least,
        max_replicas=scaler.most,
        target_in_flight=aim.slots,
        can_sleep=False,
        wait_s=aim.wait_s,
    )
    there = cluster(
        nodes=1,
        gpus_per_node=max(scaler.most, scaler.least),
        memory_bytes=FOOTPRINT.gpu_bytes,
        host_bytes=0,
        models=[model],
        pool=RENTED,
        startup=StartUp.constant(aim.start_s),
    )
    ready = [
        Replica(ReplicaId(f"first-{number:03d}"), NAME, gpu.id, ReplicaState.READY, FOOTPRINT)
        for number, gpu in enumerate(there.gpus[: scaler.begin])
    ]
    return SimWorld(there.gpus, there.nodes, there.models, there.pools, tuple(ready), there.startup)


def _most(found: SimResult, begin: int) -> int:
    changes = {"start": 1, "stop": -1}
    return max(accumulate((changes.get(one.action, 0) for one in found.decisions.last), initial=begin))
