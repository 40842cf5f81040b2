"""Worlds that make no sense."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from packers.sim import GpuJoins, GpuLost, SimError, SimOptions, SimWorld, cluster, simulate
from packers.types import Gpu, GpuId, ModelId, Node, NodeId, Pool, PoolId, Replica, ReplicaId, ReplicaState
from tests.packers.sim.scenes import GB, model, requests, world

BASE = world([model("a", 4)], gpus=(10, 10))
CALLS = requests((0, "a"))


def gpu(**changes: Any) -> SimWorld:
    return replace(BASE, gpus=(replace(BASE.gpus[0], **changes),))


def node(**changes: Any) -> SimWorld:
    return replace(BASE, nodes=(replace(BASE.nodes[0], **changes),))


def replica(**changes: Any) -> SimWorld:
    one = Replica(ReplicaId("r"), ModelId("a"), GpuId("n/0"), ReplicaState.READY, BASE.models[0].footprint)
    return replace(BASE, replicas=(replace(one, **changes),))


@pytest.mark.parametrize(
    ("there", "says"),
    [
        (gpu(memory_bytes=-1), "world.gpus.n/0.memory_bytes must be above 0, got -1"),
        (gpu(memory_bytes=0), "memory_bytes"),
        (gpu(memory_bytes=math.nan), "memory_bytes must be above 0, got nan"),
        (gpu(compute_milli=-1), "world.gpus.n/0.compute_milli"),
        (gpu(node=NodeId("x")), "world.gpus.n/0.node: 'x'"),
        (node(host_bytes=-1), "world.nodes.n.host_bytes must be 0 or more, got -1"),
        (node(link_bytes_per_s=math.nan), "world.nodes.n.link_bytes_per_s"),
        (node(cpu_milli=-5), "world.nodes.n.cpu_milli"),
        (replace(BASE, models=BASE.models * 2), "world.models: 'a' is there twice"),
        (replace(BASE, gpus=BASE.gpus * 2), "world.gpus: 'n/0' is there twice"),
        (replace(BASE, nodes=BASE.nodes * 2), "world.nodes: 'n' is there twice"),
        (replace(BASE, pools=(Pool(PoolId("p"), price_per_gpu_hour=-1),)), "world.pools.p.price_per_gpu_hour"),
        (replica(state=ReplicaState.STARTING), "world.replicas.r.state must be ready or asleep"),
        (replica(model=ModelId("x")), "world.replicas.r.model: 'x'"),
        (replica(in_flight=1), "world.replicas.r.in_flight"),
        (replica(gpu=GpuId("n/9")), "world.replicas.r: GPU 'n/9'"),
        (replace(replica(), replicas=replica().replicas * 2), "world.replicas: 'r' is there twice"),
    ],
)
def test_each_is_refused_by_its_field(there: SimWorld, says: str) -> None:
    with pytest.raises(SimError, match=says.replace(".", r"\.")):
        simulate(CALLS, there)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (lambda: SimOptions(events=(GpuLost(1, GpuId("n/7")),)), "GPU 'n/7' at 1 s"),
        (lambda: SimOptions(events=(GpuJoins(1, Gpu(GpuId("m/0"), NodeId("m"), 0, GB)),)), "node 'm'"),
        (lambda: SimOptions(until_s=0.0), "no requests"),
    ],
)
def test_events_have_to_be_about_something(options: Callable[[], SimOptions], says: str) -> None:
    with pytest.raises(SimError, match=says):
        simulate(CALLS, BASE, options=options())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hold_timeout_s", 0),
        ("hold_timeout_s", math.nan),
        ("busy_retry_s", 0),
        ("look_s", 0),
        ("tick_s", -1),
        ("slots", 0),
        ("model_slots", {"a": 0}),
        ("fail_start_share", 1.5),
        ("fail_wake_share", math.nan),
        ("loads_per_gpu", -1),
        ("hold_limit", -1),
        ("memory_points", -1),
        ("events", (GpuLost(-1, GpuId("n/0")),)),
    ],
)
def test_wrong_options_are_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"options.{field}"):
        SimOptions(**{field: value})  # type: ignore[arg-type]


def test_a_node_may_join_with_its_gpus() -> None:
    joins = Gpu(GpuId("m/0"), NodeId("m"), 0, 10 * GB)
    events = (GpuLost(0, GpuId("n/0")), GpuLost(0, GpuId("n/1")), GpuJoins(5, joins, Node(NodeId("m"), 0)))
    found = simulate(CALLS, BASE, options=SimOptions(events=events, keep_waits=True))
    assert found.waits.max_s == 15


def test_a_cluster_of_equal_nodes() -> None:
    pool = Pool(PoolId("spot"), price_per_gpu_hour=2.0)
    there = cluster(
        nodes=2, gpus_per_node=2, memory_bytes=80 * GB, host_bytes=400 * GB, models=[model("a", 4)], pool=pool
    )
    assert [one.id for one in there.gpus] == ["node-000/0", "node-000/1", "node-001/0", "node-001/1"]
    assert {one.pool for one in there.gpus} == {pool.id}
    assert simulate(CALLS, there).served == 1


def test_zero_gpus_hold_until_the_timeout() -> None:
    nothing = replace(BASE, gpus=())
    assert simulate(CALLS, nothing, options=SimOptions(hold_timeout_s=7)).timed_out == 1
