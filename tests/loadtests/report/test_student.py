"""Student's t against the tables."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.report.student import critical, two_sided


@pytest.mark.parametrize(
    ("freedom", "value"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (9, 2.262), (30, 2.042), (120, 1.980)],
)
def test_critical_values_are_those_of_the_tables(freedom: int, value: float) -> None:
    assert critical(0.05, freedom) == pytest.approx(value, abs=5e-4)


def test_the_largest_values_are_impossible_and_0_is_certain() -> None:
    assert two_sided(math.inf, 4) == 0
    assert two_sided(0.0, 3) == two_sided(0.0, 4) == 1


def test_one_degree_is_cauchys() -> None:
    assert two_sided(1.0, 1) == pytest.approx(0.5)


@given(st.floats(0.001, 0.5), st.integers(1, 60))
def test_a_critical_value_is_where_its_level_is(level: float, freedom: int) -> None:
    assert two_sided(critical(level, freedom), freedom) == pytest.approx(level, rel=1e-6)


@given(st.floats(0, 50), st.integers(1, 40))
def test_more_degrees_leave_less_in_the_tails(t: float, freedom: int) -> None:
    assert two_sided(t, freedom + 1) <= two_sided(t, freedom) + 1e-12
