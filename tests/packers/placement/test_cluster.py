"""Taking and giving back: exact, and never more than there is."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packers.placement import RULES, Ask, Cluster, Mix, PlacementError, Placer, Spot, Taken
from packers.types import OWNED, GpuId, Node, NodeId, Pool, PoolId, PoolKind
from tests.packers.placement.clusters import GIB, World, arrays, cluster, gpus_of, spot, within_capacity, worlds

A = NodeId("a")


def test_what_is_taken_is_no_longer_free() -> None:
    there = cluster({"a": [80, 80]}, cpu_milli=8000)
    there.take(spot("a/1"), Ask(1, 30 * GIB, 400, 3000, 10 * GIB))
    assert there.free_gpu(GpuId("a/1")) == (50 * GIB, 600)
    assert there.free_gpu(GpuId("a/0")) == (80 * GIB, 1000)
    assert there.free_node(A) == (5000, 90 * GIB)


def test_a_group_takes_its_share_of_each_gpu_and_the_rest_once() -> None:
    there = cluster({"a": [80, 80, 80]}, cpu_milli=8000)
    there.take(spot("a/0", "a/2"), Ask(2, 70 * GIB, cpu_milli=8000))
    assert [there.free_gpu(GpuId(f"a/{index}"))[0] // GIB for index in range(3)] == [10, 80, 10]
    assert there.free_node(A)[0] == 0


def test_cpus_that_are_not_counted_never_run_out() -> None:
    there = cluster({"a": [80]}, cpu_milli=0)
    taken = there.take(spot("a/0"), Ask(cpu_milli=1_000_000_000))
    there.give_back(taken)
    assert arrays(there) == arrays(cluster({"a": [80]}))


@pytest.mark.parametrize(
    ("ask", "field"),
    [
        (Ask(gpu_bytes=81 * GIB), r"gpu a/0\.memory_bytes"),
        (Ask(compute_milli=1001), r"gpu a/0\.compute_milli"),
        (Ask(cpu_milli=8001), r"node a\.cpu_milli"),
        (Ask(host_bytes=101 * GIB), r"node a\.host_bytes"),
    ],
)
def test_more_than_is_free_is_refused_by_name_and_nothing_changes(ask: Ask, field: str) -> None:
    there = cluster({"a": [80]}, cpu_milli=8000)
    before = arrays(there)
    with pytest.raises(PlacementError, match=field):
        there.take(spot("a/0"), ask)
    assert arrays(there) == before
    assert there.revision == 0


@pytest.mark.parametrize(
    ("where", "gpus", "problem"),
    [
        (spot("a/0", "a/0"), 2, "not different GPUs of node a"),
        (spot("a/0", "b/0"), 2, "not different GPUs of node a"),
        (spot("a/9"), 1, "'a/9' is not in the cluster"),
        (spot("a/0", node="z"), 1, "'z' is not in the cluster"),
        (spot("a/0"), 2, "names 1 GPUs"),
    ],
)
def test_a_spot_that_makes_no_sense_is_refused(where: Spot, gpus: int, problem: str) -> None:
    there = cluster({"a": [80], "b": [80]})
    with pytest.raises(PlacementError, match=problem):
        there.take(where, Ask(gpus, GIB))


@pytest.mark.parametrize("field", ["gpu_bytes", "compute_milli", "cpu_milli", "host_bytes"])
def test_no_more_is_given_back_than_was_taken(field: str) -> None:
    there = cluster({"a": [80]}, cpu_milli=8000)
    changes: dict[str, Any] = {field: 1}
    with pytest.raises(PlacementError, match="more"):
        there.give_back(replace(Taken(A, (GpuId("a/0"),), 0, 0, 0, 0), **changes))


def test_a_negative_amount_is_no_way_to_give_back() -> None:
    there = cluster({"a": [80]})
    with pytest.raises(PlacementError, match=r"taken\.gpu_bytes"):
        there.hold(Taken(A, (GpuId("a/0"),), -1, 0, 0, 0))


@pytest.mark.parametrize(
    ("gpu", "node", "problem"),
    [
        ({"memory_bytes": -1}, {}, r"gpu a/0\.memory_bytes"),
        ({"memory_bytes": math.nan}, {}, r"gpu a/0\.memory_bytes"),
        ({"compute_milli": -5}, {}, r"gpu a/0\.compute_milli"),
        ({}, {"host_bytes": math.nan}, r"node a\.host_bytes"),
        ({}, {"cpu_milli": -1}, r"node a\.cpu_milli"),
        ({"node": NodeId("b")}, {}, "not among the nodes"),
    ],
)
def test_a_cluster_that_makes_no_sense_is_refused(gpu: dict[str, Any], node: dict[str, Any], problem: str) -> None:
    with pytest.raises(PlacementError, match=problem):
        Cluster([replace(gpus_of({"a": [80]})[0], **gpu)], [replace(Node(A, 0), **node)])


def test_ids_are_unique() -> None:
    with pytest.raises(PlacementError, match="same id"):
        Cluster(gpus_of({"a": [80]}) * 2, [Node(A, 0)])


@pytest.mark.parametrize("field", ["price_per_gpu_hour", "reclaims_per_hour"])
def test_pools_have_prices_and_risks_of_at_least_zero(field: str) -> None:
    changes: dict[str, Any] = {field: math.nan}
    pool = replace(Pool(PoolId("spot"), PoolKind.SPOT), **changes)
    with pytest.raises(PlacementError, match=rf"pool spot\.{field}"):
        cluster({"a": [80]}, pools=[pool])


def test_pools_are_ranked_owned_first_then_cheap_then_safe() -> None:
    pools = [
        Pool(OWNED, price_per_gpu_hour=9.0),
        Pool(PoolId("burst"), PoolKind.BURST, 3.0),
        Pool(PoolId("spot"), PoolKind.SPOT, 1.0, 0.5),
        Pool(PoolId("calm"), PoolKind.SPOT, 1.0, 0.1),
    ]
    where = {"a": PoolId("burst"), "b": PoolId("spot"), "c": OWNED, "d": PoolId("calm")}
    there = cluster({node: [80] for node in where}, pools=pools, pool_of=where)
    assert there.rank.tolist() == [3, 2, 0, 1]


def test_a_copy_is_independent() -> None:
    there = cluster({"a": [80, 80]})
    before = arrays(there)
    twin = there.copy()
    twin.take(spot("a/0"), Ask(gpu_bytes=GIB))
    twin.cordon(GpuId("a/1"))
    assert arrays(there) == before
    assert arrays(twin) != before


@given(worlds(), st.data())
def test_never_over_capacity_and_undone_exactly_in_any_order(world: World, data: st.DataObject) -> None:
    there = world.cluster()
    empty = arrays(there)
    placer = Placer(there, RULES["ours"], Mix.of(world.asks))
    held: list[Taken] = []
    for ask in world.asks:
        found = placer.place(ask)
        if isinstance(found, Spot):
            before = arrays(there)
            taken = there.take(found, ask)
            assert within_capacity(there)
            there.give_back(taken)
            assert arrays(there) == before
            held.append(there.take(found, ask))
    for taken in data.draw(st.permutations(held)):
        there.give_back(taken)
        assert within_capacity(there)
    assert arrays(there) == empty


@given(worlds())
def test_gpus_that_are_alike_are_marked_and_no_others(world: World) -> None:
    there = world.cluster()
    placer = Placer(there, RULES["first-fit"])
    for ask in world.asks:
        found = placer.place(ask)
        if isinstance(found, Spot):
            there.take(found, ask)
    for row, gpus in enumerate(there.gpus_of):
        rooms = [(there.free_gpu(gpu.id), gpu.name) for gpu in gpus]
        expected = [room in rooms[:place] for place, room in enumerate(rooms)]
        assert there.repeated[row].tolist()[: len(gpus)] == expected


def test_the_order_in_which_gpus_and_nodes_are_listed_changes_nothing() -> None:
    gpus, nodes = gpus_of({"a": [80, 40], "b": [24]}), [Node(A, 0), Node(NodeId("b"), 0)]
    assert arrays(Cluster(gpus, nodes)) == arrays(Cluster(gpus[::-1], nodes[::-1]))


def test_an_unknown_gpu_is_not_cordoned_silently() -> None:
    with pytest.raises(PlacementError, match="not in the cluster"):
        cluster({"a": [80]}).cordon(GpuId("a/1"))


def test_a_cluster_without_nodes_is_a_cluster() -> None:
    assert len(Cluster([], [])) == 0
