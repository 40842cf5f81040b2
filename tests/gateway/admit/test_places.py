"""Busy replicas: slots, whose turn it is, and who is sent away rather than kept waiting in vain."""

from __future__ import annotations

import pytest

from gateway.admit import Outcome
from gateway.errors import HoldQueueFull
from tests.gateway.admit.scene import M, Request, Scene, model, replica


def busy(scene: Scene, seconds: float = 1.0, slots: int = 1, rounds: int = 30) -> None:
    """A model with one replica on which every request takes so long; afterwards that is known, and it is idle."""
    scene.table(model("a", slots=slots))
    for _ in range(rounds):
        asked = scene.ask()
        scene.wait(seconds)
        scene.end(asked)


def test_a_replica_never_has_more_than_its_slots() -> None:
    scene = Scene()
    scene.table(model("a", slots=2))
    asked = [scene.ask() for _ in range(4)]
    assert [one.waits for one in asked] == [False, False, True, True]
    assert scene.flying("a") == 2
    scene.end(asked[1])
    scene.turn()
    assert [one.waits for one in asked] == [False, False, False, True]
    assert scene.flying("a") == 2
    assert asked[2].claim is not None
    assert not asked[2].claim.woken


def test_a_replica_whose_slots_nobody_knows_takes_what_comes() -> None:
    scene = Scene()
    scene.table(model("a"))
    assert all(scene.ask().claim for _ in range(1000))


@pytest.mark.parametrize(("slots", "workers", "mine"), [(8, 4, 2), (9, 4, 3), (1, 4, 1), (2, 1, 2)])
def test_workers_share_the_slots_and_each_has_at_least_one(slots: int, workers: int, mine: int) -> None:
    scene = Scene(workers=workers)
    scene.table(model("a", slots=slots))
    assert sum(scene.ask().claim is not None for _ in range(10)) == mine


def test_when_another_worker_ends_its_share_goes_to_those_who_wait() -> None:
    scene = Scene(workers=2)
    scene.table(model("a", slots=4))
    asked = [scene.ask() for _ in range(5)]
    assert sum(one.waits for one in asked) == 3
    scene.admission.workers = 1
    scene.turn()
    assert sum(one.waits for one in asked) == 1
    assert scene.admission.workers == 1


def test_a_new_replica_takes_those_who_wait() -> None:
    scene = Scene()
    scene.table(model("a", slots=1))
    first, second = scene.ask(), scene.ask()
    scene.wait(2)
    scene.table(model("a", "b", slots=1))
    scene.turn()
    assert (first.at, second.at) == ("a", "b")
    assert second.claim is not None
    assert second.claim.waited_s == pytest.approx(2.0)


def test_nobody_overtakes_those_who_wait() -> None:
    scene = Scene()
    scene.table(model("a", slots=1))
    first, second = scene.ask(), scene.ask()
    scene.end(first)  # the place is the second one's, although it has not heard of it yet
    third = scene.ask()
    scene.turn()
    assert second.at == "a"
    assert third.waits


def test_the_highest_priority_is_next_then_age() -> None:
    scene = Scene()
    scene.table(model("a", slots=1))
    holder = scene.ask()
    order: list[str] = []
    waiting = {
        name: scene.ask(priority=priority)
        for name, priority in (("batch", -10), ("first", 0), ("urgent", 5), ("second", 0))
    }
    for _ in waiting:
        scene.end(holder)
        scene.turn()
        name, holder = next((name, one) for name, one in waiting.items() if one.told and name not in order)
        order.append(name)
    assert order == ["urgent", "first", "second", "batch"]


def test_a_priority_is_no_higher_than_its_caller_may() -> None:
    scene = Scene()
    scene.table(model("a", slots=1))
    holder = scene.ask()
    scene.ask(priority=9, allowed=0)
    honest = scene.ask(priority=1, allowed=1)
    scene.end(holder)
    scene.turn()
    assert honest.at == "a"


def test_a_quiet_tenant_does_not_wait_for_a_noisy_ones_backlog() -> None:
    scene = Scene()
    scene.table(model("a", slots=1))
    holder = scene.ask(tenant="noisy")
    noisy = [scene.ask(tenant="noisy") for _ in range(50)]
    quiet = scene.ask(tenant="quiet")
    served = 0
    while quiet.waits:
        scene.end(holder)
        scene.turn()
        holder = quiet if quiet.told else next(one for one in noisy[served:] if one.told)
        served += holder is not quiet
    assert served <= 1


def test_the_share_of_a_tenant_is_by_weight_and_by_work() -> None:
    """Of three tenants with a backlog: heavy has twice the weight, and big asks for twice the work each time."""
    scene = Scene(hold_limit=10_000)
    scene.table(model("a", slots=1))
    holder = scene.ask(tenant="other")
    asked: dict[str, list[Request]] = {"heavy": [], "plain": [], "big": []}
    for _ in range(300):
        asked["heavy"].append(scene.ask(tenant="heavy", weight=2.0, tokens=10))
        asked["plain"].append(scene.ask(tenant="plain", tokens=10))
        asked["big"].append(scene.ask(tenant="big", tokens=20))
    everybody = [one for requests in asked.values() for one in requests]
    done = {id(holder)}
    for _ in range(175):
        scene.end(holder)
        scene.turn()
        holder = next(one for one in everybody if one.told and id(one) not in done)
        done.add(id(holder))
    served = {name: sum(one.told for one in requests) for name, requests in asked.items()}
    assert served == {"heavy": 100, "plain": 50, "big": 25}


def test_one_who_could_not_have_its_turn_in_time_is_told_at_once_when_to_come() -> None:
    scene = Scene()
    busy(scene, seconds=4.0)
    holder = scene.ask()
    waiting = [scene.ask() for _ in range(4)]
    refused = scene.ask(timeout_s=10).error
    assert isinstance(refused, HoldQueueFull)
    assert (refused.status, refused.code) == (429, "model_overloaded")
    assert refused.headers() == [("retry-after", "20")], "five places, each free after 4 s"
    assert scene.ask(timeout_s=30).waits
    assert all(one.waits for one in waiting)
    assert holder.claim is not None


def test_a_quiet_tenant_is_not_sent_away_because_of_anothers_backlog() -> None:
    scene = Scene()
    busy(scene, seconds=4.0)
    scene.ask(tenant="noisy")
    for _ in range(40):
        scene.ask(tenant="noisy", timeout_s=1000)
    assert scene.ask(tenant="noisy", timeout_s=10).error is not None
    assert scene.ask(tenant="quiet", timeout_s=10).waits


def test_what_was_never_measured_sends_nobody_away() -> None:
    scene = Scene()
    scene.table(model("a", slots=1))
    scene.ask()
    assert all(scene.ask(timeout_s=0.5).waits for _ in range(20))


def test_more_places_mean_a_shorter_wait() -> None:
    scene = Scene()
    busy(scene, seconds=4.0, slots=8)
    for _ in range(8):
        scene.ask()
    assert scene.ask(timeout_s=1.0).waits, "one of eight places is free every half second"
    assert scene.ask(timeout_s=0.5).error is not None


def test_a_wait_for_a_place_may_be_bounded_for_all() -> None:
    """Overload: whoever is let in has its turn soon, whoever is not is told at once."""
    scene = Scene(queue_wait_s=3.0)
    busy(scene, seconds=1.0)
    scene.ask()
    told = [scene.ask(timeout_s=100) for _ in range(10)]
    assert [one.waits for one in told] == [True] * 3 + [False] * 7
    scene.wait(3.1)
    assert all(one.error is not None for one in told), "and no estimate keeps anybody longer"


def test_a_deadline_ends_the_wait_for_a_place() -> None:
    scene = Scene()
    scene.table(model("a", slots=1))
    scene.ask()
    waiting = scene.ask(timeout_s=5)
    scene.wait(5.1)
    assert isinstance(waiting.error, HoldQueueFull)
    assert "5.0 s" in waiting.error.message
    assert scene.held == 0


def test_a_full_queue_makes_room_for_a_higher_priority() -> None:
    scene = Scene(hold_limit=3)
    scene.table(model("a", slots=1))
    scene.ask()
    low = [scene.ask(priority=-1) for _ in range(3)]
    assert scene.ask(priority=-1).error is not None
    assert scene.ask(priority=0).waits
    scene.turn()
    assert [one.error is not None for one in low] == [False, False, True], "the one that came last goes"
    assert scene.held == 3


def test_a_full_queue_makes_room_for_a_tenant_that_has_less_in_it() -> None:
    scene = Scene(hold_limit=4)
    scene.table(model("a", slots=1))
    scene.ask()
    noisy = [scene.ask(tenant="noisy") for _ in range(4)]
    quiet = [scene.ask(tenant="quiet") for _ in range(3)]
    scene.turn()
    assert [one.waits for one in noisy] == [True, True, False, False]
    assert [one.waits for one in quiet] == [True, True, False], "and no further than to equal parts"
    refused = noisy[3].error
    assert isinstance(refused, HoldQueueFull)
    assert dict(refused.headers())["retry-after"]


def test_what_is_refused_at_once_leaves_no_trace() -> None:
    scene = Scene(hold_limit=0)
    scene.table(model("a", slots=1))
    scene.ask()
    assert isinstance(scene.ask().error, HoldQueueFull)
    assert scene.held == 0
    scene.turn()
    report = scene.demand.report("w", 1, 0.0).models[M]
    assert (report.in_flight, report.held, report.arrived) == (1, 0, 2)


def test_a_caller_who_leaves_is_skipped() -> None:
    scene = Scene()
    scene.table(model("a", slots=1))
    holder, second, third = (scene.ask() for _ in range(3))
    scene.admission.leave(second)
    scene.end(holder, Outcome.LEFT)
    scene.turn()
    assert third.at == "a"
    assert second.told == 0


def test_a_request_goes_to_the_replica_that_has_room() -> None:
    scene = Scene()
    scene.table(model(replica("a", slots=1), replica("b", slots=3)))
    at = [scene.ask(session=7).at for _ in range(4)]
    assert sorted(at) == ["a", "b", "b", "b"], "even where a session would rather stay"
