"""Samples become the figures that are reported; nothing is rounded away on the way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loadtests.figures import percentile

samples = st.lists(st.floats(0, 1e6), min_size=1)


def test_nearest_rank_picks_samples_that_exist() -> None:
    ordered = [float(n) for n in range(1, 101)]
    assert [percentile(ordered, p) for p in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert percentile([7.0], 99) == 7


@given(samples, st.floats(0.1, 100))
def test_at_least_the_percentage_of_samples_does_not_exceed_a_percentile(values: list[float], percent: float) -> None:
    found = percentile(sorted(values), percent)
    assert found in values
    assert sum(value <= found for value in values) >= percent / 100 * len(values) - 1e-9
