"""Our policy, one thing that it reads at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from packers.autoscale.context import next_start_s
from packers.autoscale.ours import DIP_S, ours, returns_per_s
from packers.load import GAPS, Reserve, ScaleMemory, gap_bin
from packers.types import StartTimes
from tests.packers.autoscale.moments import AIM, load_of, moment

RESERVE = Reserve(idle=2, busy=3, growth=2.5, saved=20.0)


def gaps(**lengths: float) -> tuple[float, ...]:
    """``gaps(s8=3)``: three silences of 8 s."""
    counts = [0.0] * GAPS
    for name, count in lengths.items():
        counts[gap_bin(float(name.removeprefix("s")))] += count
    return tuple(counts)


def test_nothing_known_and_nothing_asked_is_nothing_wanted() -> None:
    assert ours(moment()).count == 0


def test_what_is_in_flight_keeps_its_replicas() -> None:
    scale = ours(moment(ready=5, in_flight=9))
    assert (scale.count, scale.why) == (3, "9 requests in flight")


def test_what_is_in_flight_on_leaving_replicas_asks_for_none() -> None:
    assert ours(moment(in_flight=9)).count == 0


def test_traffic_asks_for_what_it_may_grow_to_while_a_replica_starts() -> None:
    scale = ours(moment(load=load_of(offered=16.0, reserve=RESERVE)))
    assert (scale.count, scale.why) == (10, "4.0 replicas in use may become 2.5 times as many while one starts")


def test_little_traffic_asks_for_what_earlier_surges_needed() -> None:
    scale = ours(moment(load=load_of(offered=1.0, reserve=RESERVE)))
    assert (scale.count, scale.why) == (3, "surges that came while one started asked for 3 replicas")


def test_a_backlog_that_is_gone_before_a_start_is_done_asks_for_nobody() -> None:
    """Two replicas work off 96 s of work while a third one would start; 40 requests of a second are less."""
    assert ours(moment(ready=2, in_flight=8, held=40)).count == 2


def test_a_backlog_that_is_left_then_is_worked_off_within_the_wished_wait() -> None:
    """150 + 4 s of work, 96 s of it done in 12 s: 58 s are left, 3.5 s x 4 slots a replica."""
    scale = ours(moment(ready=2, in_flight=8, held=150))
    assert (scale.count, scale.why) == (5, "58 s of work are left when another one would be ready")


def test_replicas_that_are_starting_count_for_what_they_will_have_done() -> None:
    assert ours(moment(ready=2, starting=2, ready_in_s=(1.0, 1.0), in_flight=8, held=150)).count == 2
    assert ours(moment(ready=2, starting=2, ready_in_s=(11.0, 11.0), in_flight=8, held=150)).count > 2


def test_starting_ones_of_unknown_progress_are_taken_to_be_half_done() -> None:
    unknown, half = (moment(ready=1, starting=3, ready_in_s=given, held=200) for given in ((), (6.0, 6.0, 6.0)))
    assert ours(unknown).count == ours(half).count


def test_a_deadline_before_the_wished_wait_asks_for_more() -> None:
    patient = ours(moment(ready=1, held=120)).count
    urgent = ours(moment(ready=1, held=120, deadline_s=1000.0 + 12.0 + 1.0)).count
    hopeless = ours(moment(ready=1, held=120, deadline_s=1000.0 + 5.0)).count
    assert urgent > patient == hopeless


def test_no_more_slots_than_requests() -> None:
    slow = load_of(service_s=600.0)
    assert ours(moment(held=9, load=slow)).count == 3
    assert ours(moment(ready=2, in_flight=8, held=9, load=slow)).count == 5


def test_held_requests_of_a_model_without_any_replica_get_one() -> None:
    fast = load_of(service_s=0.001)
    assert ours(moment(held=1, load=fast)).count == 1


def test_a_backlog_is_not_mistaken_for_steady_load() -> None:
    """Knative's rule sees 200 requests at a time and wants 72 replicas; their work is 200 s."""
    waiting = moment(ready=2, starting=4, ready_in_s=(6.0,) * 4, in_flight=8, held=200, load=load_of(offered=4.0))
    assert ours(waiting).count <= 6


def test_a_dip_is_passed_over_and_a_lull_is_not() -> None:
    busy = ours(moment(load=load_of(offered=16.0, reserve=RESERVE)))
    dip = ours(moment(now_s=1000.0 + DIP_S, memory=busy.memory))
    assert (dip.count, dip.why) == (10, "10 replicas were wanted a moment ago")
    assert ours(moment(now_s=1000.1 + DIP_S, memory=dip.memory)).count == 0


def test_idle_replicas_stay_while_requests_are_likely_to_come_again() -> None:
    load = load_of(silent_s=10.0, gaps=gaps(s8=5, s16=5), reserve=RESERVE)
    scale = ours(moment(load=load))
    assert scale.count == 2
    assert scale.why == "keeping a replica for a second saves 75 GPU-seconds of starting again"


def test_after_a_silence_longer_than_any_before_none_is_kept() -> None:
    load = load_of(silent_s=9000.0, gaps=gaps(s8=5, s16=5), reserve=RESERVE)
    scale = ours(moment(load=load))
    assert scale.count == 0
    assert "starting again" in scale.why


def test_a_rare_caller_is_not_waited_for_and_a_frequent_one_is() -> None:
    """A request is worth 120 GPU-seconds: every minute pays, every half hour does not."""
    one = Reserve(idle=1, busy=1, growth=1.0, saved=1.0)
    minutely = load_of(silent_s=40.0, gaps=gaps(s60=50), reserve=one)
    half_hourly = load_of(silent_s=1200.0, gaps=gaps(s1800=50), reserve=one)
    assert ours(moment(load=minutely)).count == 1
    assert ours(moment(load=half_hourly)).count == 0


def test_what_nobody_else_wants_is_kept_for_nothing() -> None:
    load = load_of(silent_s=9000.0, gaps=gaps(s8=5), reserve=RESERVE)
    assert ours(moment(load=load, keep_price=0.0, ready=2)).count == 2
    assert ours(moment(load=load, keep_price=1.0, ready=2)).count == 0
    recent = replace(load, last_s=990.0)
    assert [ours(moment(load=recent, keep_price=price)).count for price in (1.0, 10_000.0)] == [2, 0]


def test_gpus_that_nobody_else_wants_are_no_reason_to_start_replicas() -> None:
    """On rented GPUs they would go again at once, and on others whenever somebody waits somewhere."""
    load = load_of(silent_s=9000.0, gaps=gaps(s8=5), reserve=RESERVE)
    counts = [ours(moment(load=load, keep_price=0.0, ready=ready, starting=1)).count for ready in (0, 1, 5)]
    assert counts == [1, 2, 2]
    assert ours(moment(load=load, keep_price=0.0)).count == 0


def test_no_reserve_is_worth_keeping_where_none_was_ever_needed() -> None:
    scale = ours(moment(load=load_of(silent_s=1.0, gaps=gaps(s1=9))))
    assert (scale.count, scale.why) == (0, "no replica is worth keeping while nothing comes")


def test_the_hazard_falls_with_the_length_of_the_silence() -> None:
    load = load_of(gaps=gaps(s1=90, s8=9, s64=1))
    hazards = [returns_per_s(load, silence_s) for silence_s in (1.0, 8.0, 64.0, 512.0, 4096.0)]
    assert hazards == sorted(hazards, reverse=True)
    assert returns_per_s(load, 1.0) == pytest.approx(90.5 / 101, rel=0.01)
    assert returns_per_s(load_of(), 1.0) == 0.0


def test_surplus_goes_without_a_ttl() -> None:
    assert ours(moment()).linger_s == 0.0


def test_a_start_from_sleep_is_the_tier_while_one_sleeps() -> None:
    times = StartTimes(disk_s=40.0, host_s=1.25)
    assert (next_start_s(times, asleep=1), next_start_s(times, asleep=0)) == (1.25, 40.0)


def test_a_quicker_tier_asks_for_less_ahead() -> None:
    """With 150 held requests, a start of 1.25 s can do what one of 12 s comes too late for."""
    slow = moment(ready=1, held=60)
    quick = replace(slow, start_s=1.25)
    assert ours(quick).count > ours(slow).count
    assert AIM.start_s == 12.0


def test_asking_changes_nothing() -> None:
    context = moment(ready=1, in_flight=4, held=70, load=load_of(offered=9.0, reserve=RESERVE))
    assert ours(context) == ours(context)
    assert context.memory == ScaleMemory()
