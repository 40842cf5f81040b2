"""M2: how many requests a second the simulator plays on one core, decisions included.

A million generated requests a day for 50 models that would fill 15 GPUs when all are kept, on 16 GPUs (nothing has to
go) and on 14 (models swap, and the decisions take most of the time). CPU time of the one process, median of the passes.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from loadtests.policies.options import Options
from loadtests.policies.report import Figure, Report
from packers.decide import Policies
from packers.sim import SimOptions, SimResult, SimWorld, Trace, cluster, simulate
from packers.sim.generate import Traffic, generate
from packers.types import Footprint, Model, ModelId

LIMIT_PER_S = 100_000
GB = 10**9
WEIGHTS_GB = (2, 3, 6, 14, 16, 16, 28, 30, 54, 65)
KV_BYTES, GPU_BYTES, HOST_BYTES = 2 * GB, 80 * GB, 800 * GB
TRAFFIC = Traffic(models=50, rate_per_s=11.6, duration_s=86_400, zipf=1.1, cv=2.0, swing=0.5, service_s=4.0)
GPUS_PER_NODE = {"all fit": 8, "models swap": 7}
PASSES = 3
SEED = 0


def run(options: Options, report: Report) -> None:
    wanted = {name: gpus for name, gpus in GPUS_PER_NODE.items() if options.wants("M2", name)}
    if not wanted:
        return
    seed = options.seeds[0] if options.seeds else SEED
    models = zoo(seed)
    trace = generate(TRAFFIC, np.random.default_rng(seed), [model.id for model in models])
    for name, gpus in wanted.items():
        there = cluster(nodes=2, gpus_per_node=gpus, memory_bytes=GPU_BYTES, host_bytes=HOST_BYTES, models=models)
        passes = [_timed(trace, there) for _ in range(PASSES)]
        rates = [len(trace) / taken_s for taken_s, _ in passes]
        result = passes[0][1]
        others = {"delayed %": 100 * result.delayed_share, "decisions": float(result.decisions.count)}
        details = {"requests": len(trace), "by pass": rates}
        rate = statistics.median(rates)
        report.add(Figure("M2", name, "simulated requests", rate, "/s", LIMIT_PER_S, False, others, details))


def zoo(seed: int) -> list[Model]:
    """Kept until somebody else needs the room."""
    weights = np.random.default_rng(seed).choice(WEIGHTS_GB, TRAFFIC.models)
    return [
        Model(
            ModelId(f"m{number:03d}"),
            Footprint(int(size) * GB, KV_BYTES, 0, host_bytes=int(size) * GB),
            ttl_s=float("inf"),
        )
        for number, size in enumerate(weights)
    ]


def _timed(trace: Trace, world: SimWorld) -> tuple[float, SimResult]:
    began_s = time.process_time()
    result = simulate(trace, world, Policies(), SimOptions(hold_timeout_s=3600.0))
    return time.process_time() - began_s, result
