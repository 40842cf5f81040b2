"""Means and percentiles with weights are those of the samples repeated as often."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.figures import percentile
from loadtests.report.statistic import Values, needed

NAMES = ("mean", "p50", "p90", "p99")
requests = st.lists(st.lists(st.floats(0, 1e6), max_size=4), min_size=1, max_size=12)


def plainly(samples: list[float]) -> list[float]:
    ordered = sorted(samples)
    return [sum(ordered) / len(ordered), *(percentile(ordered, percent) for percent in (50, 90, 99))]


@given(requests)
def test_without_weights_they_are_the_plain_ones(made: list[list[float]]) -> None:
    samples = [value for values in made for value in values]
    found = Values.of(made).statistics(NAMES)
    if samples:
        assert list(found) == pytest.approx(plainly(samples))
    else:
        assert all(math.isnan(value) for value in found)


@settings(deadline=None)
@given(requests, st.data())
def test_a_weight_repeats_all_that_a_request_has(made: list[list[float]], data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(0, 3), min_size=len(made), max_size=len(made)))
    samples = [value for values, weight in zip(made, weights, strict=True) for value in values * weight]
    found = Values.of(made).weighted(np.array([weights]), NAMES)[0]
    if samples:
        assert list(found) == pytest.approx(plainly(samples))
    else:
        assert np.all(np.isnan(found))


def test_two_sides_in_one_keep_their_requests_apart() -> None:
    both = Values.of([[1.0], [5.0]]).with_(Values.of([[3.0], []]))
    assert both.requests == 4
    assert both.weighted(np.array([[1, 1, 0, 0], [0, 0, 1, 1]]), ["mean"])[:, 0].tolist() == [3.0, 3.0]


def test_how_many_a_p99_takes() -> None:
    assert needed(0.99) == 368
    assert needed(0.5) == 6
    for share in (0.5, 0.9, 0.99):
        assert share ** needed(share) <= 0.025 < share ** (needed(share) - 1)
