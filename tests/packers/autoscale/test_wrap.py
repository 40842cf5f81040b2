"""Bounds, delays, steps and forecasts around a policy that says what it is told to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packers.autoscale.context import Autoscaler, Scale, ScaleContext
from packers.autoscale.forecast import forecast
from packers.autoscale.recent import highest, lowest
from packers.autoscale.wrap import bounded, delayed, stepped
from packers.load import NO_MEMORY, ScaleMemory
from tests.packers.autoscale.moments import load_of, moment


def saying(count: int, why: str = "so") -> Autoscaler:
    def policy(context: ScaleContext) -> Scale:
        return Scale(count, why, replace(context.memory, count=count))

    return policy


@pytest.mark.parametrize(
    ("says", "given", "count", "why"),
    [
        (3, moment(max_replicas=5), 3, "so"),
        (9, moment(max_replicas=5), 5, "so; max_replicas is 5"),
        (0, moment(min_replicas=2, max_replicas=5), 2, "min_replicas is 2"),
        (0, moment(), 0, "min_replicas is 0"),
        (9, moment(min_replicas=7, max_replicas=5), 7, "so; max_replicas is 7"),
        (0, moment(held=1), 1, "requests are in flight or held"),
        (0, moment(operator_wake=True), 1, "an operator asked for it"),
        (0, moment(held=1, max_replicas=0), 0, "requests are in flight or held; max_replicas is 0"),
        (0, moment(in_flight=3, ready=1), 1, "requests are in flight or held"),
        (0, moment(in_flight=3), 0, "min_replicas is 0"),
    ],
)
def test_bounds(says: int, given: ScaleContext, count: int, why: str) -> None:
    scale = bounded(saying(says))(given)
    assert (scale.count, scale.why) == (count, why)


def told(policies: list[tuple[float, int]], up_s: float = 0.0, down_s: float = 0.0) -> list[int]:
    """What a delayed policy wants that says these counts at these times."""
    memory, counts = NO_MEMORY, []
    for now_s, count in policies:
        scale = delayed(saying(count), up_s, down_s)(moment(now_s=now_s, memory=memory))
        memory = scale.memory
        counts.append(scale.count)
    return counts


def test_down_is_delayed_and_up_is_not() -> None:
    assert told([(0, 2), (1, 8), (2, 3), (10.9, 3), (11.1, 3), (20, 9)], down_s=10) == [2, 8, 8, 8, 3, 9]


def test_up_is_delayed_and_down_is_not() -> None:
    assert told([(0, 2), (1, 8), (5, 8), (9, 7), (10.5, 9), (12, 1)], up_s=10) == [2, 2, 2, 2, 7, 1]


def test_both_delays_are_two_wraps() -> None:
    with pytest.raises(ValueError, match="wrap twice"):
        delayed(saying(1), up_s=1, down_s=1)
    with pytest.raises(ValueError, match="up_s is -1"):
        delayed(saying(1), up_s=-1)


def test_a_delay_says_so() -> None:
    first = delayed(saying(5), down_s=30)(moment(now_s=0.0))
    second = delayed(saying(1), down_s=30)(moment(now_s=1.0, memory=first.memory))
    assert (second.count, second.why) == (5, "so; not changed before 30 s")


@pytest.mark.parametrize(("says", "count"), [(9, 6), (5, 5), (4, 4), (1, 3), (0, 3)])
def test_steps(says: int, count: int) -> None:
    assert stepped(saying(says), up=2, down=1)(moment(ready=3, starting=1)).count == count


def test_a_step_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="up is 0"):
        stepped(saying(1), up=0)


def test_a_forecast_raises_and_never_lowers() -> None:
    policy = forecast(saying(3))
    assert policy(moment(load=load_of(expected=None))).count == 3
    assert policy(moment(load=load_of(expected=2.0))).count == 3
    foreseen = policy(moment(load=load_of(expected=28.0)))
    assert (foreseen.count, foreseen.why) == (10, "at this time of earlier days 28.0 requests were under way at once")


counts = st.lists(st.tuples(st.floats(0, 30), st.integers(0, 50)), min_size=1, max_size=30)


@given(counts, st.floats(0.1, 60))
def test_what_is_remembered_gives_the_true_extremes(steps: list[tuple[float, int]], window_s: float) -> None:
    now_s, seen = 0.0, []
    high: tuple[tuple[float, int], ...] = ()
    low: tuple[tuple[float, int], ...] = ()
    for gap_s, count in steps:
        now_s += gap_s
        seen.append((now_s, count))
        within = [number for at_s, number in seen if at_s >= now_s - window_s]
        top, high = highest(high, now_s, count, window_s)
        bottom, low = lowest(low, now_s, count, window_s)
        assert (top, bottom) == (max(within), min(within))
        assert len(high) + len(low) <= len(within) + 1


@given(st.integers(0, 500), st.integers(0, 20), st.integers(0, 20), st.booleans(), st.integers(0, 100))
def test_the_bounds_always_hold(says: int, least: int, most: int, wakes: bool, held: int) -> None:
    context = moment(min_replicas=least, max_replicas=most, operator_wake=wakes, held=held, memory=ScaleMemory())
    assert least <= bounded(saying(says))(context).count <= max(least, most)
