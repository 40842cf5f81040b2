"""How many GPUs are needed, and what goes where: invariants, known answers, and what is refused."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packers.static.problem import GpuSize, Item, ProblemError, ordered
from packers.static.solve import group, pack
from packers.types import ModelId
from tests.packers.static.brute import fewest_bins
from tests.packers.static.checks import check_all_placed, check_spots

GPU = GpuSize(100)


def model(name: str) -> ModelId:
    return ModelId(name)


def item(name: str, memory: int, replicas: int = 1, *, compute: int = 0, gpus: int = 1, apart: str = "") -> Item:
    return Item(model(name), memory, replicas, compute, gpus, frozenset(map(model, apart.split())))


@st.composite
def fleets(draw: st.DrawFn, most: int = 6, replicas: int = 3) -> list[Item]:
    names = [f"m{index}" for index in range(draw(st.integers(1, most)))]
    return [
        Item(
            model=model(name),
            memory_bytes=draw(st.integers(0, 100)),
            replicas=draw(st.integers(0, replicas)),
            compute_milli=draw(st.sampled_from([0, 0, 100, 250, 600])),
            gpus=draw(st.sampled_from([1, 1, 2, 4])),
            apart_from=frozenset(map(model, draw(st.sets(st.sampled_from(names), max_size=2)))),
        )
        for name in names
    ]


@settings(deadline=None)
@given(fleets(), st.sampled_from([4, 8]))
def test_an_answer_holds_everything_within_every_limit(items: list[Item], per_node: int) -> None:
    answer = pack(items, GPU, per_node)
    nodes = [(GPU,) * per_node] * answer.nodes
    check_spots(items, nodes, answer.spots)
    check_all_placed(items, answer.spots)
    assert answer.nodes_at_least <= answer.nodes
    assert answer.gpus_at_least <= answer.gpus <= answer.nodes * per_node
    assert answer.gpus == len({(spot.node, gpu) for spot in answer.spots for gpu in spot.gpus})


@settings(deadline=None)
@given(fleets(), st.randoms(use_true_random=False))
def test_the_order_of_the_items_plays_no_part(items: list[Item], rng: random.Random) -> None:
    shuffled = list(items)
    rng.shuffle(shuffled)
    assert pack(shuffled, GPU, 8) == pack(items, GPU, 8)


@settings(deadline=None)
@given(fleets(), st.integers(0, 60), st.integers(0, 60))
def test_more_memory_never_makes_the_answer_worse(items: list[Item], less: int, more: int) -> None:
    small, large = sorted((100 + less, 100 + more))
    assert pack(items, GpuSize(large), 8).nodes <= pack(items, GpuSize(small), 8).nodes


@settings(deadline=None)
@given(st.lists(st.integers(1, 100), min_size=1, max_size=40), st.integers(100, 160), st.integers(0, 30))
def test_more_memory_never_makes_single_gpus_worse(sizes: list[int], memory: int, more: int) -> None:
    items = [item(f"m{index:02}", size) for index, size in enumerate(sizes)]
    assert pack(items, GpuSize(memory + more)).gpus <= pack(items, GpuSize(memory)).gpus


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 1000)), min_size=1, max_size=7))
def test_few_replicas_are_packed_exactly(needs: list[tuple[int, int]]) -> None:
    items = [item(f"m{index}", memory, compute=compute) for index, (memory, compute) in enumerate(needs)]
    answer = pack(items, GPU)
    assert answer.proved
    assert answer.gpus == fewest_bins(needs, (100, 1000))


def test_memory_alone() -> None:
    answer = pack([item("a", 60, 3), item("b", 40, 3)], GPU)
    assert (answer.gpus, answer.gpus_at_least, answer.proved) == (3, 3, True)
    assert {(spot.node, spot.model) for spot in answer.spots} == {(n, m) for n in range(3) for m in ("a", "b")}


def test_single_gpus_are_put_together_into_nodes() -> None:
    answer = pack([item("a", 60, 5)], GPU, 4)
    assert (answer.gpus, answer.nodes, answer.by_node) == (5, 2, False)
    assert answer.spots[-1].node == 1
    assert answer.spots[-1].gpus == (0,)


def test_compute_can_be_what_is_short() -> None:
    answer = pack([item("a", 10, 6, compute=400)], GPU)
    assert (answer.gpus, answer.proved) == (3, True)


def test_high_memory_goes_with_high_compute() -> None:
    items = [item("memory", 80, 4, compute=150), item("compute", 20, 4, compute=850)]
    assert pack(items, GPU).gpus == 4


def test_a_group_spans_gpus_of_one_node() -> None:
    answer = pack([item("large", 90, 2, gpus=4), item("small", 10, 8)], GPU, 4)
    assert (answer.nodes, answer.proved, answer.by_node) == (2, True, True)
    for spot in answer.spots:
        if spot.model == "large":
            assert spot.gpus == (0, 1, 2, 3)


def test_replicas_that_keep_apart_take_a_node_each() -> None:
    answer = pack([item("a", 1, 5, apart="a")], GPU, 8)
    assert (answer.nodes, answer.nodes_at_least) == (5, 5)


def test_one_sided_anti_affinity_counts_for_both() -> None:
    answer = pack([item("a", 1, apart="b"), item("b", 1), item("c", 1, apart="b nobody")], GPU, 8)
    assert answer.nodes == 2
    assert len({spot.node for spot in answer.spots if spot.model in ("a", "c")}) == 1


def test_what_has_to_be_everywhere_is_placed_in_time() -> None:
    # Each of the 8 nodes must get its "everywhere" although larger ones come first.
    items = [item("everywhere", 5, 8, apart="everywhere"), item("large", 95, 8), item("rest", 50, 16)]
    answer = pack(items, GPU, 2)
    assert (answer.nodes, answer.proved) == (8, True)


def test_what_takes_nothing_goes_anywhere() -> None:
    answer = pack([item("a", 0, 3), item("b", 100)], GPU)
    assert answer.gpus == 1


def test_nothing_to_pack() -> None:
    assert pack([item("a", 10, 0)], GPU).spots == ()
    assert pack([], GPU).proved


def test_interchangeable_replicas_are_one_kind() -> None:
    grouped = group(ordered([item("b", 5, 2), item("a", 5, 3), item("c", 5, 1, apart="c")]))
    assert grouped.kinds.counts.tolist() == [5, 1]
    assert grouped.members[0] == (("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1))


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"memory_bytes": -1}, "memory_bytes"),
        ({"memory_bytes": float("nan")}, "memory_bytes"),
        ({"memory_bytes": 1.5}, "memory_bytes"),
        ({"memory_bytes": 2**60}, "memory_bytes"),
        ({"memory_bytes": 1, "replicas": -2}, "replicas"),
        ({"memory_bytes": 1, "compute_milli": True}, "compute_milli"),
        ({"memory_bytes": 1, "gpus": 0}, "gpus"),
    ],
)
def test_impossible_items_are_refused_by_field(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(ProblemError, match=f"^m: {field} must be") as caught:
        Item(model("m"), **wrong)
    assert (caught.value.field, caught.value.model) == (field, "m")


@pytest.mark.parametrize("memory", [0, -5, float("nan")])
def test_a_gpu_without_memory_is_refused(memory: int) -> None:
    with pytest.raises(ProblemError, match="memory_bytes"):
        GpuSize(memory)


@pytest.mark.parametrize(
    ("large", "field"),
    [
        (item("m", 101), "memory_bytes"),
        (item("m", 1, compute=1001), "compute_milli"),
        (item("m", 1, gpus=9), "gpus"),
    ],
)
def test_what_fits_on_no_node_is_refused(large: Item, field: str) -> None:
    with pytest.raises(ProblemError) as caught:
        pack([item("other", 1), large], GPU, 8)
    assert (caught.value.field, caught.value.model) == (field, "m")


def test_a_model_given_twice_is_refused() -> None:
    with pytest.raises(ProblemError, match="m: model is given twice"):
        pack([item("m", 1), item("m", 2)], GPU)


@pytest.mark.parametrize("seed", range(3))
def test_a_fleet_of_groups_stays_close_to_the_bound(seed: int) -> None:
    rng = random.Random(seed)
    items = [
        item(
            f"m{index:03}",
            rng.randint(5, 80),
            rng.randint(1, 4),
            gpus=rng.choice([1, 1, 1, 2, 4, 8]),
            apart=f"m{index:03}" if rng.random() < 0.7 else "",
        )
        for index in range(120)
    ]
    answer = pack(items, GPU, 8)
    check_spots(items, [(GPU,) * 8] * answer.nodes, answer.spots)
    check_all_placed(items, answer.spots)
    assert answer.over_bound <= 0.08
