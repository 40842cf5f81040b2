"""What policies are told of a model's past while a simulation runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from packers.decide import Policies
from packers.load import Aim, LoadTracker
from packers.sim import SimOptions
from packers.sim.run import Simulation
from packers.sim.trackers import Past, aim_of
from packers.types import Model, ModelId
from tests.packers.sim.scenes import START, model, requests, world
from tests.packers.worlds import PLAIN

A = ModelId("a")


def seen(of: Model, policies: Policies = PLAIN, **options: object) -> list[tuple[float, Model]]:
    """(when, the model) at every decision."""
    told: list[tuple[float, Model]] = []
    trace = requests((0, "a", 4), (20, "a", 4), (21, "a", 4), (40, "b"))
    there = world([of, model("b", 4)])
    how = SimOptions(before_decide=lambda now_s: told.append((now_s, simulation.control.state.models[A])), **options)  # type: ignore[arg-type]
    simulation = Simulation(trace, there, policies, how)
    simulation.run(None)
    return told


def test_arrivals_are_told_up_to_the_decision_and_no_further() -> None:
    for at_s, told in seen(model("a", 4), tick_s=1.0, track_usage=True):
        if told.demand.in_flight == 0:  # while it is busy that can wait
            assert told.usage.arrivals == sum(arrival_s <= at_s for arrival_s in (0, 20, 21))


def test_who_goes_by_the_last_use_is_told_no_more() -> None:
    assert all(told.usage.arrivals == 0 for _, told in seen(model("a", 4), Policies(eviction="lru"), tick_s=1.0))
    assert seen(model("a", 4), Policies(eviction="rate"), tick_s=1.0)[-1][1].usage.arrivals == 3


def test_load_is_followed_where_there_may_be_several_replicas() -> None:
    one, many = model("a", 4), model("a", 4, max_replicas=2)
    assert all(told.load.arrivals == 0 for _, told in seen(one, tick_s=1.0))
    assert all(told.load.arrivals == 0 for _, told in seen(many, tick_s=1.0, track_load=False))
    followed = seen(many, tick_s=1.0)
    assert followed[-1][1].load.arrivals == 3
    assert any(told.load.concurrency_6s > 1 for _, told in followed)
    assert seen(one, tick_s=1.0, track_load=True)[-1][1].load.arrivals == 3


def test_service_times_are_told_when_requests_end() -> None:
    tracker = LoadTracker(Aim(service_s=1.0))
    past = Past([0.0, 10.0], [5.0, 50.0], load_tracker=tracker)
    past.refresh(4.0, 1, 0)
    early = past.load.service_s
    past.refresh(20.0, 1, 0)
    assert past.load.service_s > early
    later = past.load.service_s
    past.refresh(61.0, 0, 0)
    assert past.load.service_s > later


def test_what_replicas_are_for() -> None:
    of = model("a", 4, target_in_flight=7)
    times = START.times(of)
    assert aim_of(of, times, asleep=False) == Aim(slots=7, start_s=10, wait_s=3)
    assert aim_of(of, times, asleep=True) == Aim(slots=7, start_s=1, wait_s=0.3)
    assert aim_of(replace(of, wait_s=0.7), times, asleep=False) == Aim(slots=7, start_s=10, wait_s=0.7)


def test_the_aim_is_that_of_the_tier_which_the_next_replica_would_come_from() -> None:
    """a starts at 0 s, is evicted for b at 20 s and sleeps, and is woken at 40 s."""
    aims: list[tuple[float, Aim]] = []
    calls = requests((0, "a"), (20, "b"), (35, "b"), (40, "a"), (60, "a"))

    def note(now_s: float) -> None:
        tracker = simulation.control.lanes[A].past.load_tracker
        assert tracker is not None
        aims.append((now_s, tracker.aim))

    there = world([model("a", 6, max_replicas=2), model("b", 6)])
    simulation = Simulation(calls, there, PLAIN, SimOptions(tick_s=1.0, before_decide=note))
    simulation.run(None)
    slow, quick = (Aim(slots=32, start_s=start_s, wait_s=0.3 * start_s) for start_s in (10.0, 1.0))
    assert {aim for now_s, aim in aims if now_s < 20} == {slow}
    assert {aim for now_s, aim in aims if 20 < now_s < 40} == {quick}
    assert {aim for now_s, aim in aims if now_s > 40} == {slow}


def test_held_requests_are_told_apart_and_reports_come_between_decisions() -> None:
    """Eight requests of 2 s on two slots wait for 10 s and are worked off in 8 s: 120 s in 40 s. Between decisions that
    are 20 s apart only reports can tell that they are done."""
    seen: dict[float, float] = {}
    for report_s in (0.0, 0.1):
        calls = requests(*((20.0, "a", 2.0) for _ in range(8)), (60, "a"))
        there = world([model("a", 6)])
        options = SimOptions(slots=2, tick_s=50.0, track_load=True, report_s=report_s)
        simulation = Simulation(calls, there, PLAIN, options)
        simulation.run(None)
        tracker = simulation.control.lanes[A].past.load_tracker
        assert tracker is not None
        seen[report_s] = tracker.load(simulation.agenda.now_s).concurrency_60s
    assert seen[0.1] == pytest.approx(3.0, abs=0.1)
    assert seen[0.0] > 5.0
