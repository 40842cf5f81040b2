"""One size per item: bounds, greedy packings, pricing, and the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packers.static.lines import solve
from packers.static.lines.bounds import simple_bound, volume_bound
from packers.static.lines.columns import farley, generate
from packers.static.lines.dive import Manner, dive
from packers.static.lines.greedy import best_fit_decreasing, complete, fill_bins
from packers.static.lines.knapsack import Knapsack
from packers.static.lines.line import LARGEST, Line, Packing, clip, take
from packers.static.lines.master import PRICE_UNIT, Master
from packers.static.lines.pricing import CoarseKnapsack, pricing_for
from packers.static.lines.repair import cover, one_fewer
from packers.static.lines.solve import pack_line
from packers.static.lines.tight import tight_triples
from packers.static.lines.triples import Triples
from tests.packers.static.brute import fewest_bins
from tests.packers.static.checks import check_patterns

capacities = st.integers(1, 60)


@st.composite
def lines(draw: st.DrawFn, most_items: int = 60) -> Line:
    capacity = draw(capacities)
    return Line.of(draw(st.lists(st.integers(1, capacity), max_size=most_items)), capacity)


@st.composite
def small_lines(draw: st.DrawFn) -> Line:
    return draw(lines(most_items=8))


def sizes_of(line: Line) -> list[int]:
    return [size for size, count in zip(line.sizes.tolist(), line.counts.tolist(), strict=True) for _ in range(count)]


def optimum(line: Line) -> int:
    return fewest_bins([(size,) for size in sizes_of(line)], (line.capacity,))


def triplets(bins: int, capacity: int, seed: int) -> Line:
    rng = np.random.default_rng(seed)
    sizes: list[int] = []
    while len(sizes) < 3 * bins:
        one, other = (int(size) for size in rng.integers(capacity // 4 + 1, capacity // 2, 2))
        third = capacity - one - other
        if capacity < 4 * third < 2 * capacity:
            sizes += [one, other, third]
    return Line.of(sizes, capacity)


def test_a_line_is_in_the_coarsest_unit() -> None:
    line = Line.of([40, 20, 40, 60], 107)
    assert (line.sizes.tolist(), line.counts.tolist(), line.capacity) == ([3, 2, 1], [1, 2, 1], 5)
    assert (line.items, line.volume) == (4, 8)


@pytest.mark.parametrize("sizes", [[0], [-1], [11], [5, 12]])
def test_sizes_that_no_bin_can_hold_are_refused(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="sizes must be from 1 to 10"):
        Line.of(sizes, 10)


def test_a_capacity_that_could_overflow_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity must be from 0"):
        Line.of([1], LARGEST + 1)


def test_nothing_needs_nothing() -> None:
    assert pack_line(Line.of([], 10)) == Packing((), 0)


@given(small_lines())
def test_bounds_never_exceed_the_optimum(line: Line) -> None:
    assert volume_bound(line) <= simple_bound(line) <= optimum(line)


def test_items_above_half_a_bin_count_alone() -> None:
    # By volume 6 x 0.51 would need 4 bins.
    assert simple_bound(Line.of([51] * 6, 100)) == 6


def test_items_above_a_third_count_in_pairs() -> None:
    assert simple_bound(Line.of([34] * 7, 100)) == 4


@given(lines())
def test_greedy_packings_hold_everything(line: Line) -> None:
    for packed in (best_fit_decreasing(line), fill_bins(line)):
        check_patterns(line, packed)
        assert len(packed) >= simple_bound(line)


def test_bins_are_filled_to_the_brim() -> None:
    # Best-fit decreasing puts 6 beside 7, and nothing fills what is left of that bin.
    line = Line.of([7, 6, 5, 4, 4, 4], 15)
    assert (len(best_fit_decreasing(line)), len(fill_bins(line))) == (3, 2)


def test_wide_bins_are_filled_in_steps() -> None:
    line = Line.of([2**40 + 1, 2**40 - 7, 2**41 - 1], 2**41)
    check_patterns(line, fill_bins(line))


@given(lines(), st.lists(st.integers(0, 10)))
def test_completing_keeps_what_is_given(line: Line, taken: list[int]) -> None:
    given_patterns = [((index, 1),) for index in taken if index < len(line.sizes)]
    check_patterns(line, complete(line, given_patterns))


def best_worth(line: Line, values: list[int]) -> int:
    """By trying every pattern."""
    best = [0] * (line.capacity + 1)
    for size, count, value in zip(line.sizes.tolist(), line.counts.tolist(), values, strict=True):
        for _ in range(count):
            for room in range(line.capacity, size - 1, -1):
                best[room] = max(best[room], best[room - size] + value)
    return max(best)


@given(lines(most_items=15), st.data())
def test_pricing_finds_the_dearest_pattern(line: Line, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(0, 50), min_size=len(line.sizes), max_size=len(line.sizes)))
    priced = Knapsack(line.sizes, line.capacity).price(np.array(values, np.int64), line.counts, 0, 10)
    assert priced.most == best_worth(line, values)
    worths = [sum(values[index] * copies for index, copies in pattern) for pattern in priced.patterns]
    assert max(worths, default=0) == priced.most
    for pattern in priced.patterns:
        assert line.fits(pattern)
        assert all(copies <= line.counts[index] for index, copies in pattern)


@given(st.integers(8, 100), st.data())
def test_pricing_by_triples_is_exact_too(capacity: int, data: st.DataObject) -> None:
    line = Line.of(data.draw(st.lists(st.integers(capacity // 4 + 1, capacity), min_size=1, max_size=15)), capacity)
    values = data.draw(st.lists(st.integers(0, 50), min_size=len(line.sizes), max_size=len(line.sizes)))
    priced = Triples(line).price(np.array(values, np.int64), line.counts, 0, 10)
    assert priced.most == best_worth(line, values)
    assert all(line.fits(pattern) for pattern in priced.patterns)


@given(lines(most_items=15), st.integers(2, 12), st.data())
def test_coarse_pricing_is_never_too_low(line: Line, steps: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(0, 50), min_size=len(line.sizes), max_size=len(line.sizes)))
    priced = CoarseKnapsack(line, steps).price(np.array(values, np.int64), line.counts, 0, 10)
    assert priced.most >= best_worth(line, values)
    assert all(line.fits(pattern) for pattern in priced.patterns)


def test_the_way_of_pricing_suits_the_line() -> None:
    assert isinstance(pricing_for(Line.of([30, 26, 50], 100)), Triples)
    assert isinstance(pricing_for(Line.of([30, 2, 50], 100)), Knapsack)
    assert isinstance(pricing_for(Line.of([30 * 2**30, 2**30 + 1, 50 * 2**30], 100 * 2**30)), CoarseKnapsack)


@given(small_lines())
def test_column_generation_gives_a_valid_bound(line: Line) -> None:
    if line.items == 0:
        return
    master = Master(line.counts)
    master.add(best_fit_decreasing(line))
    generated = generate(line, master, pricing_for(line), 0, line.items, 100)
    assert generated.at_least <= optimum(line)
    assert generated.relaxed is not None
    assert generated.relaxed.value <= optimum(line) + 1e-6


@given(small_lines(), st.data())
def test_any_prices_give_a_valid_bound(line: Line, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(0, 50), min_size=len(line.sizes), max_size=len(line.sizes)))
    assert farley(np.array(values, np.int64), line.counts, best_worth(line, values)) <= optimum(line)


def test_the_program_rises_above_the_volume() -> None:
    # Two of 34 and one of 32 fill a bin, but there are too few of 32.
    line = Line.of([34] * 30 + [32] * 3, 100)
    master = Master(line.counts)
    master.add(best_fit_decreasing(line))
    generated = generate(line, master, pricing_for(line), 0, line.items, 100)
    assert volume_bound(line) == 12
    assert generated.at_least == 15


def test_a_dive_ends_with_everything_packed() -> None:
    line = triplets(30, 1000, seed=3)
    master = Master(line.counts)
    start = best_fit_decreasing(line)
    master.add(start)
    generated = generate(line, master, pricing_for(line), 30, len(start), 100)
    assert generated.relaxed is not None
    found = dive(line, master, pricing_for(line), generated.relaxed, 30, len(start), Manner(0.7, 12))
    assert found is not None
    check_patterns(line, found)
    assert len(found) <= 31 < len(start)


def test_tight_triples_are_all_there_are() -> None:
    line = Line.of([40, 35, 30, 30, 25 + 1], 100)
    exact = tight_triples(line, 0)
    loose = tight_triples(line, 4)
    assert exact is not None
    assert loose is not None
    filled = [sorted(int(line.sizes[index]) for index, copies in pattern for _ in range(copies)) for pattern in loose]
    assert sorted(filled) == [[26, 30, 40], [30, 30, 40]]
    assert [pattern for pattern in loose if pattern in exact] == exact
    assert tight_triples(Line.of([40, 20], 100), 0) is None


def test_two_half_empty_bins_are_put_together() -> None:
    line = Line.of([50, 50, 60, 40], 100)
    bins = [((0, 1),), ((1, 1),), ((1, 1),), ((2, 1),)]
    known = [((0, 1), (2, 1)), ((1, 2),)]
    fewer = one_fewer(line, bins, known)
    assert fewer is not None
    check_patterns(line, fewer)
    assert len(fewer) == 3


def test_what_cannot_be_covered_is_not() -> None:
    assert cover(np.array([2, 1]), [((0, 1),), ((1, 1),)], 2) is None


def test_clipping_and_taking() -> None:
    left = [1, 0, 5]
    pattern = clip(((0, 2), (1, 1), (2, 2)), left)
    assert pattern == ((0, 1), (2, 2))
    take(pattern, left)
    assert left == [0, 0, 3]


@settings(deadline=None)
@given(lines())
def test_a_packing_holds_everything_and_knows_its_bound(line: Line) -> None:
    packing = pack_line(line)
    check_patterns(line, packing.patterns)
    assert packing.at_least <= packing.bins <= len(best_fit_decreasing(line))


@settings(deadline=None, max_examples=200)
@given(small_lines())
def test_small_lines_are_packed_as_well_as_possible(line: Line) -> None:
    packing = pack_line(line)
    assert packing.at_least <= optimum(line) <= packing.bins <= optimum(line) + 1
    assert not packing.proved or packing.bins == optimum(line)


@pytest.mark.parametrize("capacity", [1000, 100_000, 80 * 2**30])
def test_triplets_are_packed_within_a_bin_of_the_known_optimum(capacity: int) -> None:
    line = triplets(60, capacity, seed=7)
    packing = pack_line(line)
    check_patterns(line, packing.patterns)
    assert packing.at_least == 60
    assert packing.bins <= 61
    assert len(best_fit_decreasing(line)) > 63


def test_one_kind_of_item_that_leaves_a_gap() -> None:
    # No pattern fills a bin: 3 x 30. The dearest one proves it, where the volume does not.
    packing = pack_line(Line.of([30] * 300, 100))
    assert (packing.bins, packing.proved) == (100, True)


@pytest.mark.parametrize("seed", range(4))
def test_a_zoo_of_models_is_packed_to_the_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    line = Line.of((rng.choice([57, 79, 118, 130, 201], 400) + rng.choice([16, 32, 64], 400)).tolist(), 384)
    packing = pack_line(line)
    check_patterns(line, packing.patterns)
    assert packing.bins <= packing.at_least + 1
    assert packing.bins <= len(best_fit_decreasing(line))


def test_the_linear_program_failing_leaves_the_greedy_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Master, "solve", lambda self: None)
    monkeypatch.setattr(solve, "simple_bound", lambda line: 1)
    line = Line.of([40, 20, 50, 45, 25] * 3, 100)
    packing = pack_line(line)
    check_patterns(line, packing.patterns)
    assert not packing.proved


def test_prices_are_whole_numbers() -> None:
    master = Master(np.array([3, 2]))
    master.add([((0, 1),), ((1, 1),)])
    relaxed = master.solve()
    assert relaxed is not None
    assert relaxed.prices.tolist() == [PRICE_UNIT, PRICE_UNIT]
    assert master.add([((1, 1),)]) == 0
