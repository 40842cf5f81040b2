"""Requests, queues and slots, without anybody who decides."""

from __future__ import annotations

from math import inf, isnan

from packers.sim.agenda import Agenda, Kind
from packers.sim.front import NO_LIMIT, Front, Lane, Runner
from packers.sim.trackers import Past
from packers.types import Demand, GpuId, Replica, ReplicaId, ReplicaState
from tests.packers.sim.scenes import model


class Desk:
    """A front with one model; requests are 10 s long and arrive when told."""

    def __init__(self, slots: int = NO_LIMIT, hold_timeout_s: float = inf, hold_limit: int = NO_LIMIT) -> None:
        self.agenda = Agenda()
        self.asked: list[str] = []
        self.front = Front(self.agenda, [], [], [], hold_timeout_s, hold_limit, self.asked.append)
        self.lane = Lane(model("a", 1), Past(()), slots)

    def runner(self, name: str) -> Runner:
        replica = Replica(
            ReplicaId(name), self.lane.model.id, GpuId("n/0"), ReplicaState.READY, self.lane.model.footprint
        )
        return Runner(replica, self.lane, 0.0)

    def arrive(self, at_s: float, service_s: float = 10.0) -> None:
        self.agenda.run_before(at_s, Kind.ARRIVAL)
        self.front.at_s.append(at_s)
        self.front.service_s.append(service_s)
        self.front.waits_s.append(0.0)
        self.front.arrive(len(self.front.at_s) - 1, self.lane)

    def until(self, at_s: float) -> None:
        self.agenda.run_before(at_s, Kind.ARRIVAL)


def test_the_first_that_is_held_asks_for_a_decision_once() -> None:
    desk = Desk()
    desk.arrive(1)
    desk.arrive(2)
    assert desk.asked == ["held"]
    assert list(desk.front.waiting) == ["a"]
    desk.agenda.run_before(5, Kind.ARRIVAL)
    assert desk.front.demand(desk.lane, 0) == Demand(held=2, oldest_wait_s=4)


def test_nobody_is_asked_while_a_start_is_under_way() -> None:
    desk = Desk()
    desk.lane.starting = 1
    desk.arrive(1)
    assert desk.asked == []


def test_what_was_held_is_served_when_a_replica_is_ready() -> None:
    desk = Desk()
    desk.arrive(1)
    desk.arrive(2)
    desk.until(4)
    desk.lane.enter(desk.runner("a-1"))
    desk.front.dispatch(desk.lane)
    assert desk.front.waits_s == [3, 2]
    assert desk.front.waiting == {}
    assert desk.lane.only is desk.lane.ready[0]
    assert desk.lane.in_flight(5) == 2
    assert desk.lane.in_flight(14) == 0


def test_the_one_with_the_least_to_do_gets_the_next() -> None:
    desk = Desk()
    one, two = desk.runner("a-1"), desk.runner("a-2")
    desk.lane.enter(two)
    desk.lane.enter(one)
    assert desk.lane.only is None
    for at_s in (1, 2, 3):
        desk.arrive(at_s)
    assert (len(one.ends_s), len(two.ends_s)) == (2, 1)


def test_full_slots_make_a_queue_that_empties_as_slots_get_free() -> None:
    desk = Desk(slots=1)
    desk.lane.enter(desk.runner("a-1"))
    desk.arrive(0, 5)
    desk.arrive(1, 5)
    desk.arrive(2, 5)
    assert desk.lane.only is None
    desk.until(20)
    assert desk.front.waits_s == [0, 4, 8]
    assert (desk.lane.queued, desk.lane.delayed) == (2, 0)


def test_nobody_overtakes_the_queue() -> None:
    desk = Desk(slots=1)
    runner = desk.runner("a-1")
    desk.lane.enter(runner)
    desk.arrive(0, 5)
    desk.arrive(1, 1)
    desk.agenda.now_s = 5.0  # the slot is free, and nobody has looked yet
    desk.arrive(5, 1)
    desk.until(20)
    assert desk.front.waits_s == [0, 4, 1]


def test_deadlines_come_one_after_the_other() -> None:
    desk = Desk(hold_timeout_s=3)
    desk.arrive(1)
    desk.arrive(2)
    desk.until(4.5)
    assert (desk.lane.timed_out, len(desk.lane.queue)) == (1, 1)
    assert desk.front.demand(desk.lane, 0).earliest_deadline_s == 5
    desk.until(6)
    assert (desk.lane.timed_out, desk.front.waits_s) == (2, [3, 3])
    assert desk.front.waiting == {}
    desk.arrive(10)
    desk.until(14)
    assert desk.lane.timed_out == 3


def test_a_full_queue_and_a_model_that_cannot_be_started_refuse() -> None:
    desk = Desk(hold_limit=1)
    desk.arrive(1)
    desk.arrive(2)
    desk.front.end_held(desk.lane, failed=True)
    desk.lane.refused_until_s = 8.0
    desk.arrive(5)
    desk.arrive(9)
    assert (desk.lane.refused, desk.lane.failed, desk.lane.delayed) == (2, 1, 4)
    assert [isnan(wait) for wait in desk.front.waits_s] == [False, True, True, False]
    desk.front.end_held(desk.lane, failed=False)
    assert desk.lane.refused == 3


def test_a_replica_that_leaves_finishes_what_it_has() -> None:
    desk = Desk()
    runner = desk.runner("a-1")
    desk.lane.enter(runner)
    desk.arrive(0)
    desk.lane.leave(runner)
    assert (desk.lane.ready, desk.lane.draining, desk.lane.only) == ([], [runner], None)
    assert desk.lane.in_flight(5) == 1
    assert runner.idle_from_s == 10
    desk.arrive(5)
    assert desk.asked == ["held"]
    desk.lane.forget(runner)
    assert desk.lane.draining == []


def test_when_a_replica_was_of_use_last() -> None:
    desk = Desk()
    runner = desk.runner("a-1")
    desk.lane.enter(runner)
    desk.arrive(0, 3)
    desk.arrive(1, 8)
    assert runner.use(2) == (2, 2)
    assert runner.use(5) == (1, 5)
    assert runner.use(30) == (0, 9)


def test_who_is_left_over_in_the_end_has_timed_out() -> None:
    desk = Desk()
    desk.arrive(1)
    desk.until(7)
    desk.front.give_up()
    assert (desk.lane.timed_out, desk.front.waits_s, desk.front.waiting) == (1, [6], {})
