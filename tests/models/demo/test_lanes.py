"""The hidden state is divided without gaps, and says so when there is no room."""

from __future__ import annotations

from dataclasses import astuple, fields
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.demo.lanes import IDENTITY, Lanes, value_of, width


@settings(deadline=None)
@given(hidden=st.integers(500, 2000), rank=st.integers(1, 100), tied=st.booleans())
def test_lanes_lie_side_by_side_and_inside(hidden: int, rank: int, tied: bool) -> None:
    lanes = Lanes.lay_out(hidden, rank, tied)
    ordered = [getattr(lanes, field.name) for field in fields(lanes)]
    assert ordered[0].start == 0
    assert all(before.stop == after.start for before, after in pairwise(ordered))
    assert ordered[-1].stop in (hidden - 1, hidden)


@settings(deadline=None)
@given(hidden=st.integers(500, 2000), rank=st.integers(1, 100))
def test_a_copy_is_as_wide_as_what_it_copies(hidden: int, rank: int) -> None:
    for source, target in Lanes.lay_out(hidden, rank, tied=True).copied():
        assert width(source) == width(target) > 0


def test_a_readout_of_its_own_needs_no_copies() -> None:
    lanes = Lanes.lay_out(400, 100, tied=False)
    assert [width(target) for _, target in lanes.copied()] == [0, 0, 0, 0]
    assert (width(lanes.features), width(lanes.identity), width(lanes.history)) == (100, IDENTITY, IDENTITY)


@pytest.mark.parametrize("tied", [False, True])
def test_a_hidden_state_that_is_too_narrow_is_refused_with_the_cure(tied: bool) -> None:
    with pytest.raises(ValueError, match="hidden size 200 is too small for a bigram table of rank 100; lower the rank"):
        Lanes.lay_out(200, 100, tied)


def test_the_same_sizes_give_the_same_lanes() -> None:
    assert astuple(Lanes.lay_out(400, 100, tied=False)) == astuple(Lanes.lay_out(400, 100, tied=False))


def test_a_share_of_the_energy_is_a_length() -> None:
    assert value_of(0.25, hidden=400) == pytest.approx(10.0)
