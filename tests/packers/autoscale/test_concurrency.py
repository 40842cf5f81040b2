"""Knative's rules, as they are documented."""

from __future__ import annotations

import pytest

from packers.autoscale.concurrency import concurrency
from packers.load import NO_MEMORY, ScaleMemory
from tests.packers.autoscale.moments import load_of, moment


@pytest.mark.parametrize(("stable", "count"), [(2.8, 1), (2.81, 2), (28.0, 10), (0.1, 1)])
def test_the_stable_window_at_seven_tenths_of_the_slots(stable: float, count: int) -> None:
    assert concurrency(moment(ready=9, load=load_of(stable=stable, panic=stable))).count == max(count, 4)
    assert concurrency(moment(ready=count, load=load_of(stable=stable, panic=stable))).count == count


def test_twice_the_ready_ones_over_six_seconds_is_panic() -> None:
    calm = concurrency(moment(ready=3, load=load_of(stable=8.0, panic=14.0)))
    assert (calm.count, calm.memory.panic_s) == (3, None)
    panic = concurrency(moment(ready=3, load=load_of(stable=8.0, panic=14.1)))
    assert (panic.count, panic.memory.panic_s) == (6, 1000.0)
    assert panic.why == "panic: 14.1 requests at a time over 6 s"


def test_in_panic_it_never_wants_fewer() -> None:
    memory = ScaleMemory(panic_s=1000.0, panic_count=12)
    after = concurrency(moment(now_s=1030.0, ready=12, load=load_of(stable=3.0, panic=3.0), memory=memory))
    assert after.count == 12
    more = concurrency(moment(now_s=1030.0, ready=12, load=load_of(stable=3.0, panic=50.0), memory=memory))
    assert more.count == 18


def test_panic_ends_a_minute_after_it_was_last_called_for() -> None:
    memory = ScaleMemory(panic_s=1000.0, panic_count=12)
    still = concurrency(moment(now_s=1060.0, ready=12, load=load_of(stable=3.0, panic=3.0), memory=memory))
    over = concurrency(moment(now_s=1060.5, ready=12, load=load_of(stable=3.0, panic=3.0), memory=memory))
    assert (still.count, over.count) == (12, 6)
    assert (over.memory.panic_s, over.memory.panic_count) == (None, 0)


def test_down_by_half_at_most() -> None:
    assert concurrency(moment(ready=40, load=load_of(stable=0.5, panic=0.5))).count == 20
    assert concurrency(moment(ready=1, load=load_of(stable=0.0, panic=0.0), starting=0)).count == 1


def test_zero_after_the_grace_period() -> None:
    idle = load_of()
    first = concurrency(moment(ready=1, load=idle))
    assert (first.count, first.memory.zero_s) == (1, 1000.0)
    later = concurrency(moment(now_s=1029.9, ready=1, load=idle, memory=first.memory))
    assert later.count == 1
    assert concurrency(moment(now_s=1030.0, ready=1, load=idle, memory=later.memory)).count == 0


def test_traffic_in_the_grace_period_begins_it_anew() -> None:
    first = concurrency(moment(ready=1, load=load_of()))
    busy = concurrency(moment(now_s=1010.0, ready=1, load=load_of(stable=1.0), memory=first.memory))
    assert busy.memory.zero_s is None
    assert concurrency(moment(now_s=1031.0, ready=1, load=load_of(), memory=busy.memory)).count == 1


def test_with_no_replica_and_nothing_to_do_it_wants_none() -> None:
    assert concurrency(moment(load=load_of(), memory=NO_MEMORY)).count == 0


def test_it_takes_a_backlog_for_steady_load() -> None:
    """That is what makes it the baseline: 200 requests wait for one start, and 72 replicas are wanted."""
    waiting = moment(ready=2, starting=4, in_flight=8, held=200, load=load_of(stable=20.0, panic=200.0))
    assert concurrency(waiting).count == 72
