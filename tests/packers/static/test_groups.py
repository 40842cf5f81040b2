"""The parts of packing groups: bounds, looking ahead, filling, emptying a node, deciding exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import repeat

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from packers.static.groups.bounds import apart_bound, gpus_bound, line_of, nodes_bound
from packers.static.groups.exact import MOST_CHOICES, decide
from packers.static.groups.filling import fill
from packers.static.groups.kinds import NOBODY, Filled, Held, Kinds, weights_of
from packers.static.groups.mend import mend
from packers.static.groups.outlook import Grid, outlook
from packers.static.groups.pack import pack_kinds
from packers.static.groups.stock import FillManner, Stock
from packers.static.lines.solve import program_bound
from tests.packers.static.brute import fewest_bins

CAPACITY = (100, 1000)
MANNER = FillManner((24, 24))


def kinds_of(
    *rows: tuple[int, int, int] | tuple[int, int, int, int], apart: Sequence[frozenset[int]] | None = None
) -> Kinds:
    """Rows of memory, compute, count and, where it is not 1, span."""
    return Kinds(
        needs=np.array([row[:2] for row in rows], np.int64).reshape(-1, 2),
        counts=np.array([row[2] for row in rows], np.int64),
        spans=np.array([row[3] if len(row) == 4 else 1 for row in rows], np.int64),
        apart=tuple(apart) if apart is not None else (NOBODY,) * len(rows),
    )


def check_filled(kinds: Kinds, filled: Filled) -> None:
    """Within every limit, and nothing is lost."""
    placed: Counter[int] = Counter(kind for node in filled.nodes for kind, _ in node.placed)
    assert [placed[kind] + left for kind, left in enumerate(filled.left)] == kinds.counts.tolist()
    for node in filled.nodes:
        used = np.zeros((len(node.shape), 2), np.int64)
        for kind, gpus in node.placed:
            assert len(set(gpus)) == kinds.spans[kind]
            used[list(gpus)] += kinds.needs[kind]
        assert (used <= np.array(node.shape)).all()
        here = Counter(kind for kind, _ in node.placed)
        assert all(here[kind] == 1 or kind not in kinds.apart[kind] for kind in here)
        assert not any(kinds.apart[kind] & (set(here) - {kind}) for kind in here)


@st.composite
def some_kinds(draw: st.DrawFn) -> Kinds:
    rows = draw(
        st.lists(
            st.tuples(st.integers(0, 100), st.integers(0, 1000), st.integers(0, 5), st.sampled_from([1, 1, 2, 4])),
            min_size=1,
            max_size=6,
        )
    )
    apart: list[set[int]] = [set() for _ in rows]
    for one, other in draw(st.lists(st.tuples(*[st.integers(0, len(rows) - 1)] * 2), max_size=3)):
        apart[one].add(other)
        apart[other].add(one)
    return kinds_of(*rows, apart=[frozenset(each) for each in apart])


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 1000)), min_size=1, max_size=6))
def test_bounds_on_gpus_never_exceed_the_optimum(needs: list[tuple[int, int]]) -> None:
    kinds = kinds_of(*((memory, compute, 1) for memory, compute in needs))
    optimum = fewest_bins(needs, CAPACITY)
    at_least = gpus_bound(kinds, CAPACITY)
    assert at_least <= optimum
    assert nodes_bound(kinds, CAPACITY, 1, at_least) <= optimum
    assert program_bound(line_of(kinds, 0, 100), 99) <= optimum


def test_a_mean_of_both_dimensions_bounds_better_than_either() -> None:
    # Each takes more than half of the mean of memory and compute.
    kinds = kinds_of((70, 400, 6), (40, 700, 6))
    assert gpus_bound(kinds, CAPACITY) == 12


def test_groups_of_whole_gpus_bound_the_nodes() -> None:
    # 3 of 8 GPUs each, no two on one GPU: two to a node, though 8 / 3 would be more.
    kinds = kinds_of((60, 0, 6, 3))
    assert nodes_bound(kinds, CAPACITY, 8, gpus_bound(kinds, CAPACITY)) == 3


def test_a_clique_of_models_that_keep_apart_takes_a_node_each() -> None:
    everyone = frozenset({0, 1, 2})
    assert apart_bound(kinds_of((1, 0, 4), (1, 0, 3), (1, 0, 2), apart=[everyone] * 3)) == 9
    assert apart_bound(kinds_of((1, 0, 4), (1, 0, 3), apart=[frozenset({1}), frozenset({0})])) == 0


def test_the_scarcer_dimension_counts_more() -> None:
    assert weights_of((300, 1000), CAPACITY, 1).tolist() == [0.75, 0.25]
    assert weights_of((300, 1000), CAPACITY, 2).tolist() == [0.9, 0.1]
    assert weights_of((0, 0), CAPACITY, 1).tolist() == [0.5, 0.5]


def test_the_outlook_counts_on_up_to_three_more() -> None:
    table = outlook(Grid((10, 10), CAPACITY), np.array([[30, 100], [50, 800]]), np.array([3.0, 5.0]))
    assert table[2, 10] == 0
    assert table[3, 1] == 3
    assert table[6, 2] == 6
    assert table[8, 9] == 8
    assert table[10, 10] == 9
    assert (np.diff(table, axis=0) >= 0).all()


@given(some_kinds(), st.integers(1, 6))
def test_filling_keeps_every_limit(kinds: Kinds, nodes: int) -> None:
    check_filled(kinds, fill(kinds, [(CAPACITY,) * 4] * nodes, CAPACITY, nodes, MANNER))


def test_a_bin_is_filled_with_what_completes_it() -> None:
    kinds = kinds_of((60, 500, 2), (40, 500, 2), (39, 100, 2))
    filled = fill(kinds, repeat((CAPACITY,)), CAPACITY, 9, MANNER)
    assert filled.used == 3
    assert sorted(kind for kind, _ in filled.nodes[0].placed) == [0, 1]


def test_what_must_be_everywhere_counts_more_as_nodes_run_out() -> None:
    stock = Stock(kinds_of((50, 0, 4), (50, 0, 4), apart=[NOBODY, frozenset({1})]), CAPACITY, MANNER)
    calm = stock.single_worth.tolist()
    stock.press(8)
    assert calm[0] == calm[1]
    assert sorted(stock.single_worth.tolist()) != calm
    stock.press(4)
    assert max(stock.single_worth.tolist()) > 1.9 * calm[0]


@settings(deadline=None)
@given(some_kinds())
def test_mending_loses_nothing_and_never_takes_more(kinds: Kinds) -> None:
    filled = fill(kinds, repeat((CAPACITY,) * 4), CAPACITY, 1, MANNER)
    mended = mend(kinds, filled, 0)
    check_filled(kinds, mended)
    assert mended.used <= filled.used


def test_a_node_is_emptied_by_swapping() -> None:
    # Kind 0 is alone on the last node, barred from the only free part by its own sort; kind 1 makes room for it.
    kinds = kinds_of((20, 0, 2), (20, 0, 1), (80, 0, 2), apart=[frozenset({0}), NOBODY, NOBODY])
    shape = (CAPACITY,)
    nodes = (
        Held(shape, [(2, (0,)), (1, (0,))]),
        Held(shape, [(0, (0,)), (2, (0,))]),
        Held(shape, [(0, (0,))]),
    )
    stuck = Filled(nodes, (0, 0, 0))
    assert mend(kinds, stuck, 2).used == 3  # nowhere else is room for kind 1
    roomy = Filled((*nodes[:2], Held(shape, [(0, (0,))]), Held(shape, [])), (0, 0, 0))
    assert mend(kinds, roomy, 2).used == 3
    wider = kinds_of((20, 0, 2), (20, 0, 1), (60, 0, 2), apart=[frozenset({0}), NOBODY, NOBODY])
    fewer = mend(wider, stuck, 2)
    check_filled(wider, fewer)
    assert fewer.used == 2


@settings(deadline=None)
@given(some_kinds(), st.integers(1, 2))
def test_what_is_decided_is_true(kinds: Kinds, nodes: int) -> None:
    shape = (CAPACITY,) * 4
    decided = decide(kinds, (shape,) * nodes)
    if decided.nodes is not None:
        check_filled(kinds, Filled(decided.nodes, (0,) * len(kinds.counts)))
    found = fill(kinds, (shape,) * nodes, CAPACITY, nodes, MANNER)
    assert not (decided.impossible and found.complete)


def test_what_is_too_much_to_decide_stays_open() -> None:
    kinds = kinds_of(*((memory, 0, 1) for memory in range(1, 100)))
    decided = decide(kinds, ((CAPACITY,),) * (MOST_CHOICES // 90))
    assert (decided.nodes, decided.impossible) == (None, False)


@settings(deadline=None)
@given(some_kinds())
def test_packed_kinds_are_all_there(kinds: Kinds) -> None:
    packed = pack_kinds(kinds, CAPACITY, 4)
    check_filled(kinds, packed.filled)
    assert packed.filled.complete
    assert packed.nodes_at_least <= packed.filled.used
