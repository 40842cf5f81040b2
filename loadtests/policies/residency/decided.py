"""The same traces through what production decides: ``packers.sim`` with ``packers.decide``, to hold ``lean`` against.

Same models, GPUs and start-ups as in ``lean``: falling asleep and stopping take no time, a model wakes on any GPU, loads
on one GPU do not wait for each other. What stays different is what production promises: with ``patience_s`` a replica
stays for as long as its start took, and the host copy of one that wakes holds its RAM until it is awake.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    """``name``: one of POLICIES."""
    policies = POLICIES[name]
    world = cluster(
        nodes=1,
        gpus_per_node=gpus,
        memory_bytes=GPU_BYTES,
        host_bytes=host_bytes,
        models=models,
        startup=START_UP,
    )
    options = SimOptions(tick_s=EVERY_S if policies.prewarm else 0.0, loads_per_gpu=0, memory_points=0)
    return simulate(trace, world, policies, options)
