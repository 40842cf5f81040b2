"""The same traces through what production decides: ``packers.sim`` with ``packers.decide``, to hold ``lean`` against.

Same models, GPUs and start-ups as in ``lean``: falling asleep and stopping take no time, a model wakes on any GPU,
loads on one GPU do not wait for each other. What stays different is what production promises: with ``patience_s`` a
replica stays for as long as its start took, and the host copy of one that wakes holds its RAM until it is awake.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loadtests.policies.report import Figure
from loadtests.policies.residency.lean import Outcome
from loadtests.policies.residency.zoo import GPU_BYTES, START_UP
from packers.decide import Policies
from packers.residency.prewarm import EVERY_S
from packers.sim import SimOptions, SimResult, Trace, cluster, simulate
from packers.types import Model

POLICIES = {
    "ours": Policies(placement="best-fit", eviction="ours", prewarm=True),
    "lru": Policies(placement="best-fit", eviction="lru"),
}


def decided(name: str, models: Sequence[Model], trace: Trace, gpus: int, host_bytes: int) -> SimResult:
    """``name``: one of POLICIES. Bringing back is thought of as often as in ``lean``: about once a request at most."""
    policies = POLICIES[name]
    world = cluster(
        nodes=1, gpus_per_node=gpus, memory_bytes=GPU_BYTES, host_bytes=host_bytes, models=models, startup=START_UP
    )
    gap_s = trace.duration_s / max(1, len(trace))
    tick_s = max(EVERY_S, gap_s) if policies.prewarm else 0.0
    options = SimOptions(tick_s=tick_s, loads_per_gpu=0, memory_points=0)
    return simulate(trace, world, policies, options)


def compared(
    goal: str,
    item: str,
    models: Sequence[Model],
    trace: Trace,
    gpus: int,
    host_bytes: int,
    lean: Mapping[str, Outcome],
) -> list[Figure]:
    """A line for each of POLICIES, for comparison only. ``lean``: what came out of the same trace there."""
    figures = []
    for name in POLICIES:
        result, small = decided(name, models, trace, gpus, host_bytes), lean[name]
        details = {"loads": result.loads, "from_disk": result.starts_disk, "load_s": result.load_s}
        details |= {"p99_wait_s": result.waits.p99_s, "longest_wait_s": result.waits.max_s}
        details |= {"lean_loads": small.loads, "lean_from_disk": small.disk_loads, "lean_load_s": small.load_s}
        what = f"delayed, production decision, {name} on {gpus} GPUs"
        others = {f"lean {name}": small.delayed_percent}
        figures.append(Figure(goal, item, what, 100 * result.delayed_share, "%", None, True, others, details))
    return figures
