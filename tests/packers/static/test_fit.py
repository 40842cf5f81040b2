"""Whether everything goes on given GPUs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packers.static.answer import Verdict
from packers.static.fit import fit
from packers.static.problem import GpuSize, Item, Node, ProblemError
from tests.packers.static.brute import fewest_bins
from tests.packers.static.checks import check_all_placed, check_spots
from tests.packers.static.test_pack import fleets, item


def node(*memory: int) -> Node:
    return tuple(GpuSize(size) for size in memory)


@st.composite
def clusters(draw: st.DrawFn) -> list[Node]:
    sizes = st.sampled_from([40, 100, 100, 150])
    large = node(100, 100, 100, 100)  # so that every item fits on some node
    return [large, *(node(*draw(st.lists(sizes, min_size=1, max_size=4))) for _ in range(draw(st.integers(0, 2))))]


@settings(deadline=None)
@given(fleets(most=4, replicas=2), clusters())
def test_a_fit_keeps_every_limit_and_says_what_is_left_out(items: list[Item], nodes: list[Node]) -> None:
    found = fit(items, nodes)
    check_spots(items, nodes, found.spots)
    placed = len(found.spots)
    assert placed + sum(count for _, count in found.left_out) == sum(item.replicas for item in items)
    assert (found.verdict is Verdict.FITS) == (not found.left_out)
    assert (found.verdict is Verdict.CANNOT) == bool(found.why)


@settings(deadline=None)
@given(fleets(most=4, replicas=2), clusters(), st.integers(1, 50))
def test_more_memory_never_makes_it_unfit(items: list[Item], nodes: list[Node], more: int) -> None:
    if fit(items, nodes).verdict is Verdict.FITS:
        larger = [tuple(GpuSize(gpu.memory_bytes + more) for gpu in each) for each in nodes]
        assert fit(items, larger).verdict is Verdict.FITS


@settings(deadline=None)
@given(st.lists(st.integers(1, 100), min_size=1, max_size=7), st.integers(1, 7))
def test_few_replicas_are_decided_exactly(sizes: list[int], gpus: int) -> None:
    items = [item(f"m{index}", size) for index, size in enumerate(sizes)]
    possible = fewest_bins([(size,) for size in sizes], (100,)) <= gpus
    assert fit(items, [node(100)] * gpus).verdict is (Verdict.FITS if possible else Verdict.CANNOT)


def test_each_goes_where_there_is_room() -> None:
    items = [item("large", 90), item("small", 40, 2)]
    found = fit(items, [node(40), node(100), node(40)])
    assert found.verdict is Verdict.FITS
    check_all_placed(items, found.spots)
    assert [spot.node for spot in found.spots if spot.model == "large"] == [1]


def test_large_ones_need_the_large_gpus() -> None:
    found = fit([item("large", 90, 3), item("small", 1)], [node(100, 100, 40, 40, 40, 40)])
    assert found.verdict is Verdict.CANNOT
    assert found.why == "at least 3 GPUs of more than 40 bytes are needed, and there are 2"
    assert found.left_out == (("large", 1),)


def test_too_little_memory_in_all() -> None:
    found = fit([item("a", 40, 5)], [node(100), node(40), node(40)])
    assert found.verdict is Verdict.CANNOT
    assert found.why == "200 bytes of memory are needed, and there are 180"


def test_too_few_nodes() -> None:
    found = fit([item("a", 1, 3, apart="a")], [node(100, 100), node(100, 100)])
    assert found.verdict is Verdict.CANNOT
    assert found.why == "at least 3 nodes are needed, and there are 2"


def test_what_the_bounds_leave_open_is_searched_through() -> None:
    # Volumes would allow it, and no size by itself rules it out.
    found = fit([item("a", 30, 2), item("b", 40, 2)], [node(60), node(45), node(39)])
    assert found.verdict is Verdict.CANNOT
    assert found.why == "every way to place them was ruled out"


def test_a_smaller_last_node() -> None:
    items = [item("a", 60, 5)]
    found = fit(items, [node(100, 100, 100, 100), node(100)])
    assert found.verdict is Verdict.FITS
    check_spots(items, [node(100, 100, 100, 100), node(100)], found.spots)


def test_nothing_fits_anywhere() -> None:
    assert fit([], [node(1)]).verdict is Verdict.FITS


@pytest.mark.parametrize("nodes", [[], [()]])
def test_no_gpus_at_all_are_refused(nodes: list[Node]) -> None:
    with pytest.raises(ProblemError, match="must name at least one GPU"):
        fit([item("a", 1)], nodes)


def test_what_is_larger_than_every_gpu_is_refused() -> None:
    with pytest.raises(ProblemError, match=r"a: memory_bytes \(60\) is more than the largest GPU has \(50\)"):
        fit([item("a", 60)], [node(50, 40)])
