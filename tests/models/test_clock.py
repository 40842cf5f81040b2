"""A clock that goes on whatever is done to the machine's."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.clock import SLEW, SteadyClock


class Machine:
    """``ahead_s``: by how much its wall clock is wrong."""

    def __init__(self) -> None:
        self.ran_s, self.ahead_s = 50.0, 0.0

    def unix(self) -> float:
        return 1_000_000.0 + self.ran_s + self.ahead_s

    def clock(self) -> SteadyClock:
        return SteadyClock(self.unix, lambda: self.ran_s)


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_an_hour_more_or_less_on_the_wall_is_no_hour(jump_s: float) -> None:
    machine = Machine()
    clock = machine.clock()
    before = clock()
    machine.ran_s += 10.0
    machine.ahead_s = jump_s
    assert clock() - before == pytest.approx(10.0, rel=SLEW * 1.01)
    assert clock.wall() - before == pytest.approx(10.0 + jump_s)


def test_a_second_that_the_wall_was_wrong_is_made_up_for_in_two_minutes() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.ahead_s = 1.0
    for _ in range(120):
        machine.ran_s += 1.0
        clock()
    assert clock() == pytest.approx(machine.unix(), abs=1e-6)


def test_it_tells_the_time() -> None:
    assert SteadyClock()() == pytest.approx(time.time(), abs=5.0)


@given(st.lists(st.tuples(st.floats(0.0, 100.0), st.floats(-1e5, 1e5)), max_size=30))
def test_it_never_runs_backwards_and_never_far_from_its_pace(turns: list[tuple[float, float]]) -> None:
    machine = Machine()
    clock = machine.clock()
    for passed_s, jump_s in turns:
        before = clock()
        machine.ran_s += passed_s
        machine.ahead_s += jump_s
        assert passed_s * (1 - SLEW) - 1e-6 <= clock() - before <= passed_s * (1 + SLEW) + 1e-6
