"""What a LoadTracker says of a model's last minutes, in virtual time."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packers.load import DEFAULT_AIM, GAPS, NO_LOAD, Aim, Load, LoadTracker, aim_for, gap_bin


def steady(tracker: LoadTracker, *, until_s: float, every_s: float, service_s: float, from_s: float = 0.0) -> None:
    """A request every ``every_s``, each in flight for ``service_s``; reports every 0.1 s."""
    arrivals = [from_s + number * every_s for number in range(math.ceil((until_s - from_s) / every_s))]
    came = 0
    for tick in range(int((until_s - from_s) * 10) + 1):
        now_s = from_s + tick / 10
        while came < len(arrivals) and arrivals[came] <= now_s:
            tracker.arrive(arrivals[came])
            came += 1
        in_flight = sum(at_s <= now_s < at_s + service_s for at_s in arrivals)
        tracker.observe(now_s, in_flight)


def test_without_a_request_there_is_no_load() -> None:
    load = LoadTracker().load(100.0)
    assert (load.arrivals, load.rate_60s, load.concurrency_60s, load.offered) == (0, 0.0, 0.0, 0.0)
    assert replace(load, at_s=0.0, last_s=0.0, gaps=()) == NO_LOAD


def test_the_windows_hold_rates_and_mean_concurrency() -> None:
    tracker = LoadTracker()
    steady(tracker, until_s=120.0, every_s=0.25, service_s=2.0)
    load = tracker.load(120.0)
    assert load.arrivals == 480
    assert load.rate_6s == pytest.approx(4.0, rel=0.05)
    assert load.rate_60s == pytest.approx(4.0, rel=0.02)
    assert load.concurrency_6s == pytest.approx(8.0, rel=0.05)
    assert load.concurrency_60s == pytest.approx(8.0, rel=0.02)


def test_the_short_window_forgets_a_burst_that_the_long_one_remembers() -> None:
    tracker = LoadTracker()
    tracker.arrive(0.0, 60)
    tracker.observe(0.0, 60)
    tracker.observe(6.0, 0)
    load = tracker.load(30.0)
    assert (load.rate_6s, load.concurrency_6s) == (0.0, 0.0)
    assert load.rate_60s == pytest.approx(2.0)
    assert load.concurrency_60s == pytest.approx(12.0)
    assert tracker.load(200.0).concurrency_60s == 0.0


def test_service_times_follow_from_littles_law() -> None:
    tracker = LoadTracker(Aim(service_s=5.0))
    assert tracker.load(0.0).service_s == 5.0
    steady(tracker, until_s=300.0, every_s=0.25, service_s=2.0)
    assert tracker.load(300.0).service_s == pytest.approx(2.0, rel=0.03)


def test_what_is_held_is_not_service() -> None:
    tracker = LoadTracker()
    for second in range(400):
        tracker.arrive(float(second))
        tracker.observe(float(second), 101, held=100)
    tracker.observe(400.0, 100, held=100)
    assert tracker.load(400.0).service_s == pytest.approx(400 / 300, rel=0.05)


def test_measured_service_times_are_believed_first() -> None:
    tracker = LoadTracker()
    tracker.finish(0.0, 990, 990 * 0.5)
    steady(tracker, until_s=30.0, every_s=0.5, service_s=3.0)
    assert tracker.load(30.0).service_s == pytest.approx(0.5, abs=0.01)


def test_backlog_is_not_offered_load() -> None:
    """Four requests a second of one second each: four at a time, however many wait."""
    tracker = LoadTracker()
    for tick in range(600):
        tracker.arrive(tick / 10, 2 if tick % 5 == 0 else 0)
        tracker.observe(tick / 10, 500, held=496)
        tracker.finish(tick / 10, 1, 1.0)
    load = tracker.load(60.0)
    assert load.concurrency_6s == pytest.approx(500, rel=0.05)
    assert load.offered == pytest.approx(4.0, rel=0.15)


def test_the_peak_is_held_and_then_let_go() -> None:
    tracker = LoadTracker(Aim(start_s=12.0, wait_s=3.5))
    tracker.arrive(10.0, 20)
    assert tracker.load(11.0).peak_offered > 10
    assert tracker.load(15.0).peak_offered > 10
    assert tracker.load(40.0).peak_offered == 0.0


def test_regular_traffic_has_little_burstiness_and_bursts_much() -> None:
    regular, bursty = LoadTracker(), LoadTracker()
    steady(regular, until_s=600.0, every_s=0.1, service_s=1.0)
    for minute in range(10):
        bursty.arrive(minute * 60.0, 600)
    bursty.observe(600.0, 0)
    assert regular.load(600.0).burstiness < 0.2
    assert bursty.load(600.0).burstiness > 5


def test_silences_are_counted_by_their_length() -> None:
    tracker = LoadTracker()
    for at_s in (0.0, 1.0, 2.0, 66.0):
        tracker.arrive(at_s)
    gaps = tracker.load(70.0).gaps
    assert len(gaps) == GAPS
    assert (gaps[gap_bin(1.0)], gaps[gap_bin(64.0)], sum(gaps)) == (2.0, 1.0, 3.0)


@pytest.mark.parametrize(
    ("gap_s", "place"), [(0.0, 0), (0.0625, 0), (0.125, 1), (1.0, 4), (1.9, 4), (2.0, 5), (1e9, 23)]
)
def test_gaps_fall_into_doublings(gap_s: float, place: int) -> None:
    assert gap_bin(gap_s) == place


def test_a_day_of_silence_takes_no_longer_than_a_second() -> None:
    tracker = LoadTracker()
    tracker.arrive(0.0, 5)
    tracker.observe(1.0, 0)
    (surges,) = tracker._surges
    steps = 0
    step = surges._step

    def counting(service_s: float) -> None:
        nonlocal steps
        steps += 1
        step(service_s)

    surges._step = counting  # type: ignore[method-assign]
    tracker.load(86_400.0)
    assert steps < 100
    assert surges.now_s > 86_399


def test_a_time_that_runs_backwards_counts_as_now() -> None:
    tracker = LoadTracker()
    tracker.arrive(10.0)
    tracker.arrive(9.0)
    assert tracker.load(5.0).at_s == 10.0
    assert tracker.load(10.0).arrivals == 2


def test_a_measured_start_time_keeps_what_was_learned_and_other_slots_begin_anew() -> None:
    tracker = LoadTracker(Aim(slots=4, start_s=12.0, wait_s=3.5))
    for minute in range(20):
        tracker.arrive(minute * 60.0, 40)
    before = tracker.load(1300.0).reserve
    assert before.idle > 1
    tracker.retarget(replace(tracker.aim, start_s=11.0))
    assert tracker.load(1300.0).reserve == before
    tracker.retarget(replace(tracker.aim, slots=64))
    assert tracker.load(1300.0).reserve.idle == 0


def test_what_was_learned_for_one_tier_is_there_again_when_it_is_the_next_one_again() -> None:
    """A model with a sleeper is woken in a second; once it has none, a start takes twelve."""
    slow, quick = aim_for(4, 12.0), aim_for(4, 1.0)
    tracker = LoadTracker(slow)
    for burst in range(40):
        tracker.arrive(burst * 30.0, 40)
        tracker.observe(burst * 30.0 + 1, 0)
    before = tracker.load(1200.0).reserve
    assert before.saved > 10
    tracker.retarget(quick)
    assert tracker.load(1200.0).reserve != before
    tracker.retarget(aim_for(4, 11.0))
    assert tracker.load(1200.0).reserve == before
    tracker.retarget(aim_for(4, 1.1))
    assert len(tracker._surges) == 2


@pytest.mark.parametrize(
    ("aim", "wait_s"),
    [(aim_for(4, 12.0), 3.6), (aim_for(4, 12.0, 0.7), 0.7), (aim_for(4, 0.0), 0.1), (aim_for(0, 1.0), 0.3)],
)
def test_without_a_word_on_waits_a_share_of_a_start_is_meant(aim: Aim, wait_s: float) -> None:
    assert aim.wait_s == pytest.approx(wait_s)
    assert aim.slots >= 1


def test_after_a_period_it_knows_what_to_expect() -> None:
    tracker = LoadTracker(Aim(start_s=60.0, wait_s=1.0), period_s=3600.0)
    assert tracker.load(1000.0).expected is None
    steady(tracker, from_s=1800.0, until_s=1860.0, every_s=0.1, service_s=3.0)
    tracker.observe(1870.0, 0)
    assert tracker.load(3600.0 + 1000.0).expected == 0.0
    assert tracker.load(3600.0 + 1750.0).expected == pytest.approx(30.0, rel=0.3)
    assert tracker.load(3600.0 + 1950.0).expected == 0.0


@pytest.mark.parametrize(
    ("field", "value"),
    [("wait_s", 0.0), ("slots", 0), ("start_s", -1.0), ("late_share", math.nan), ("service_s", math.inf)],
)
def test_an_aim_that_cannot_be_is_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"aim.{field}"):
        Aim(**{**asdict(DEFAULT_AIM), field: value})


calls = st.lists(
    st.tuples(st.floats(0, 50), st.integers(0, 200), st.integers(0, 300), st.integers(0, 300)), min_size=1, max_size=40
)


@settings(max_examples=60, deadline=None)
@given(calls)
def test_whatever_comes_the_load_is_finite_plain_data(calls: list[tuple[float, int, int, int]]) -> None:
    tracker = LoadTracker(Aim(slots=4, start_s=12.0, wait_s=3.5))
    now_s = 0.0
    for gap_s, count, in_flight, held in calls:
        now_s += gap_s
        tracker.arrive(now_s, count)
        tracker.observe(now_s, in_flight + held, held)
        load = tracker.load(now_s)
        numbers = json.loads(json.dumps(asdict(load), allow_nan=False))
        assert Load(**{**numbers, "gaps": tuple(numbers["gaps"]), "reserve": load.reserve}) == load
        assert load.peak_offered >= load.offered >= 0
        assert min(load.rate_6s, load.concurrency_6s, load.concurrency_60s) >= 0
        assert load.service_s > 0
        assert 0 <= load.reserve.idle <= load.reserve.busy
        assert load.reserve.growth >= 1


@settings(max_examples=40, deadline=None)
@given(calls)
def test_the_same_calls_give_the_same_load(calls: list[tuple[float, int, int, int]]) -> None:
    loads = []
    for _ in range(2):
        tracker, now_s = LoadTracker(), 0.0
        for gap_s, count, in_flight, held in calls:
            now_s += gap_s
            tracker.arrive(now_s, count)
            tracker.observe(now_s, in_flight + held, held)
        loads.append(tracker.load(now_s))
    assert loads[0] == loads[1]
