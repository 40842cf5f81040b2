"""Blocks: as long as requests have something in common, and no longer."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.report.blocks import block_length, block_of, resampled
from tests.loadtests.report.made import autoregressive


def lengths(weight: float, count: int = 400) -> list[int]:
    return [block_length([autoregressive(np.random.default_rng(seed), count, weight)]) for seed in range(20)]


def test_requests_that_have_nothing_in_common_are_drawn_one_by_one() -> None:
    assert np.median(lengths(0.0)) <= 2


def test_the_more_they_have_in_common_the_longer_are_the_blocks() -> None:
    little, more, much = (np.median(lengths(weight)) for weight in (0.0, 0.5, 0.85))
    assert little < more < much


def test_a_run_that_is_all_one_queue_is_cut_into_few_blocks_still() -> None:
    assert block_length([np.linspace(0, 1, 300, dtype=np.float64)]) <= 60


def test_what_says_nothing_is_one_by_one() -> None:
    assert block_length([]) == block_length([np.array([1.0, 2.0])]) == block_length([np.full(50, 3.0)]) == 1
    assert block_length([np.full(50, np.nan)]) == 1


def test_passes_share_one_length() -> None:
    passes = [autoregressive(np.random.default_rng(seed), 200, 0.7) for seed in range(4)]
    assert 2 <= block_length(passes) <= 43


def test_requests_that_failed_leave_no_hole() -> None:
    made = autoregressive(np.random.default_rng(1), 300, 0.8)
    made[::7] = np.nan
    assert block_length([made]) > 1


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 99))
def test_each_resample_has_as_many_requests_as_there_were(count: int, length: int, seed: int) -> None:
    drawn = resampled(count, length, 7, np.random.default_rng(seed))
    assert drawn.shape == (7, count)
    assert np.all(drawn.sum(axis=1) == count)


def test_every_request_is_drawn_as_often_as_any_other() -> None:
    """Also the first and the last: blocks go round the end."""
    drawn = resampled(20, 6, 6000, np.random.default_rng(0)).mean(axis=0)
    assert np.all(np.abs(drawn - 1) < 0.1)


def test_neighbours_come_together() -> None:
    drawn = resampled(40, 8, 4000, np.random.default_rng(0)).astype(float)
    near, far = np.corrcoef(drawn[:, 10], drawn[:, 11])[0, 1], np.corrcoef(drawn[:, 10], drawn[:, 30])[0, 1]
    assert near > 0.5 > 0.1 > far


def test_blocks_are_in_the_order_of_the_requests() -> None:
    assert list(block_of(7, 3)) == [0, 0, 0, 1, 1, 1, 2]
