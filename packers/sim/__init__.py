"""A simulator in virtual time that decides as production does: it keeps a ``packers.state.State``, calls
``packers.decide.decide_on`` on it and carries the plan out on a fleet of which only the durations exist.

    trace = read_trace(lines, "requests.csv.gz")            # or packers.sim.generate, or Trace.of(...)
    world = cluster(nodes=1, gpus_per_node=8, memory_bytes=80 * 10**9, host_bytes=400 * 10**9, models=models)
    result = simulate(trace, world, Policies(eviction="lru"), SimOptions(seed=1))
    print(result.delayed_share, result.waits.p99_s, result.hours.resident)

The same trace, world, policies and options give the same result. Nothing here reads files, clocks or the environment.
"""

from __future__ import annotations

from packers.sim.formats import read_trace
from packers.sim.options import Event, GpuJoins, GpuLost, GpuReclaimed, SimOptions
from packers.sim.oracle import NextUse
from packers.sim.replay import Difference, Recorded, replay
from packers.sim.result import Decided, Decisions, GpuHours, MemoryPoint, ModelResult, PoolResult, SimResult, Waits
from packers.sim.run import Progress, SimError, simulate
from packers.sim.service import ServiceTimes
from packers.sim.startup import Sample, StartUp, TierTime, fit_tier
from packers.sim.trace import Trace, TraceError
from packers.sim.world import SimWorld, cluster

__all__ = [
    "Decided",
    "Decisions",
    "Difference",
    "Event",
    "GpuHours",
    "GpuJoins",
    "GpuLost",
    "GpuReclaimed",
    "MemoryPoint",
    "ModelResult",
    "NextUse",
    "PoolResult",
    "Progress",
    "Recorded",
    "Sample",
    "ServiceTimes",
    "SimError",
    "SimOptions",
    "SimResult",
    "SimWorld",
    "StartUp",
    "TierTime",
    "Trace",
    "TraceError",
    "Waits",
    "cluster",
    "fit_tier",
    "read_trace",
    "replay",
    "simulate",
]
