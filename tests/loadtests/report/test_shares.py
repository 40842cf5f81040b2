"""Shares: what was not seen is not impossible."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.report.estimate import Difference, Figure
from loadtests.report.shares import of_share, of_shares, wilson


def test_wilsons_own_numbers() -> None:
    """Newcombe, Stat. Med. 17 (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for seen, count, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)):
        assert wilson(seen / count, count)[0] == pytest.approx(low, abs=1e-4)
        assert wilson(seen / count, count)[1] == pytest.approx(high, abs=1e-4)


def test_newcombes_own_difference() -> None:
    """The same, table II (a), method 10: 56/70 - 48/80 has 0.0524 to 0.3339."""
    first, second = (Figure(p, p, p) for p in (48 / 80, 56 / 70))
    change = Figure(0.2, 0.2, 0.2)
    found = of_shares(Difference(first, second, change, 0.01), (80, 70)).change
    assert found.low == pytest.approx(0.0524, abs=1e-4)
    assert found.high == pytest.approx(0.3339, abs=1e-4)


def test_no_failure_among_150_says_little_of_one_in_a_hundred() -> None:
    found = of_share(Figure(0.0, 0.0, 0.0), 150)
    assert found.low == 0.0
    assert found.high == pytest.approx(0.025, abs=0.001)
    none = Figure(0.0, 0.0, 0.0)
    change = of_shares(Difference(none, none, none, 1.0), (150, 150)).change
    assert change.low is not None
    assert change.high is not None
    assert change.low == pytest.approx(-change.high)
    assert change.high > 0.02


def test_what_passes_show_is_never_made_narrower() -> None:
    assert of_share(Figure(0.1, 0.0, 0.9), 1000) == Figure(0.1, 0.0, 0.9)
    bounded = of_share(Figure(0.1, 0.05, None), 40)
    assert bounded.high is not None
    assert bounded.high > 0.1


def test_nothing_measured_stays_nothing() -> None:
    nothing = Figure(math.nan, None, None)
    assert of_share(nothing, 5) is nothing
    assert of_share(Figure(0.0, None, None), 0).high is None
    found = Difference(nothing, nothing, nothing, math.nan)
    assert of_shares(found, (5, 5)) is found


@given(st.integers(1, 500), st.floats(0, 1))
def test_a_share_lies_within_its_interval(count: int, share: float) -> None:
    low, high = wilson(share, count)
    assert 0 <= low <= share <= high <= 1
