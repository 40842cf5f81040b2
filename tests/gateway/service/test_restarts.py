from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.service.restarts import HEALTHY_AFTER_S, LONGEST_WAIT_S, Restarts


def test_the_first_restart_is_immediate_then_waits_double_up_to_a_limit() -> None:
    restarts, waits = Restarts(), []
    for _ in range(9):
        restarts = restarts.after_running(1.0)
        waits.append(restarts.wait_s)
    assert waits == [0, 0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_part_that_stayed_up_begins_anew() -> None:
    tired = Restarts(recent=7, total=9)
    assert tired.after_running(HEALTHY_AFTER_S) == Restarts(recent=1, total=10)


def test_nothing_happened_nothing_to_wait_for() -> None:
    assert Restarts().wait_s == 0


@given(st.lists(st.floats(0, 1000), max_size=200))
def test_waits_stay_within_bounds_and_every_end_is_counted(lives: list[float]) -> None:
    restarts = Restarts()
    for lived_s in lives:
        restarts = restarts.after_running(lived_s)
        assert 0 <= restarts.wait_s <= LONGEST_WAIT_S
        assert restarts.wait_s > 0 or restarts.recent == 1
    assert restarts.total == len(lives)
