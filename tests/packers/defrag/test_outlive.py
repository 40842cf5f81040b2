"""The placement score for models that come and go."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from packers.defrag.outlive import Seat, choose, score, weight
from packers.types import GpuId


def seat(name: str, free: int, replicas: int) -> Seat:
    return Seat(GpuId(name), 100, free, replicas)


def test_alike_in_number_the_tighter_gpu_is_taken():
    assert choose([seat("g0", 40, 2), seat("g1", 30, 2)], 25) == seat("g1", 30, 2)


def test_alike_in_room_the_one_with_more_on_it_is_taken_so_that_the_other_may_close():
    assert choose([seat("g0", 30, 1), seat("g1", 30, 5)], 25) == seat("g1", 30, 5)


def test_a_little_room_wasted_is_better_than_keeping_a_gpu_open():
    # Mean free share 0.325, mean replicas 3: weight 0.65. 0.05 + 0.65 / 2 against 0.10 + 0.65 / 6.
    there = [seat("g0", 30, 1), seat("g1", 35, 5)]
    assert weight(there) == pytest.approx(0.65)
    assert choose(there, 25) == there[1]
    # Mean replicas 2: weight 0.6. 0.05 + 0.6 / 2 against 0.65 + 0.6 / 4.
    wide = [seat("g0", 30, 1), seat("g1", 90, 3)]
    assert choose(wide, 25) == wide[0]


def test_the_weight_follows_the_cluster():
    assert weight([]) == 0.0
    assert weight([seat("g0", 100, 0)]) == 0.0
    assert weight([seat("g0", 30, 1), seat("g1", 60, 1), seat("g2", 100, 0)]) == 0.0, "alone: only space counts"
    assert weight([seat("g0", 0, 4), seat("g1", 0, 2)]) == 0.0, "full: only space counts"
    assert weight([seat("g0", 10, 4), seat("g1", 30, 2)]) == pytest.approx(0.2 * 2)


def test_an_empty_gpu_is_opened_only_when_there_is_no_room_elsewhere():
    assert choose([seat("g0", 100, 0), seat("g1", 99, 1)], 25) == seat("g1", 99, 1)
    assert choose([seat("g1", 100, 0), seat("g0", 100, 0), seat("g2", 20, 1)], 25) == seat("g0", 100, 0)
    assert choose([seat("g0", 20, 3)], 25) is None
    assert choose([], 25) is None


@pytest.mark.parametrize("there", range(6))
def test_the_second_term_is_how_much_longer_the_gpu_stays_in_use(there):
    """Of exponential lives the expected last departure grows by 1 / (n + 1) with one more: checked by sampling."""
    rng = np.random.default_rng(there)
    lives = rng.exponential(size=(400_000, there + 1))
    with_it = lives.max(axis=1).mean()
    without = lives[:, :there].max(axis=1).mean() if there else 0.0
    assert with_it - without == pytest.approx(1 / (there + 1), abs=0.01)
    assert score(seat("g", 50, there), 50, 0.3) == pytest.approx(0.3 / (there + 1))


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 9)), min_size=1, max_size=8), st.integers(1, 100))
def test_the_choice_fits_and_does_not_depend_on_the_order(given_seats, needs):
    seats = [seat(f"g{number}", free, replicas) for number, (free, replicas) in enumerate(given_seats)]
    found = choose(seats, needs)
    assert found == choose(seats[::-1], needs)
    if found is None:
        assert all(one.free_bytes < needs for one in seats)
    else:
        assert found.free_bytes >= needs
