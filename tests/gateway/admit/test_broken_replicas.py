"""Replicas that break: out of rotation, requests elsewhere, and no storm of retries."""

from __future__ import annotations

import pytest

from gateway.admit import Outcome
from gateway.errors import EngineLost
from packers.types import ReplicaId
from tests.gateway.admit.scene import Scene, model

A = ReplicaId("a")


@pytest.mark.parametrize("outcome", [Outcome.LOST, Outcome.BUSY, Outcome.STALLED])
def test_a_replica_that_broke_gets_nothing_new_for_a_while(outcome: Outcome) -> None:
    scene = Scene()
    scene.table(model("a", "b"))
    scene.end(scene.ask(), outcome)
    assert [scene.ask().at for _ in range(4)] == ["b"] * 4
    scene.wait(1.1)
    assert scene.ask().at == "a"


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.LEFT])
def test_an_answer_and_a_caller_who_left_say_nothing_bad(outcome: Outcome) -> None:
    scene = Scene()
    scene.table(model("a", "b"))
    scene.end(scene.ask(), outcome)
    assert scene.ask().at == "a"


def test_what_breaks_together_counts_as_one_failure() -> None:
    scene = Scene()
    scene.table(model("a"))
    for asked in [scene.ask() for _ in range(30)]:
        scene.end(asked, Outcome.LOST)
    scene.wait(1.1)
    assert scene.ask().at == "a"


def test_an_answer_ends_the_suspicion_and_those_who_wait_go() -> None:
    scene = Scene()
    scene.table(model("a"))
    good, bad = scene.ask(), scene.ask()
    scene.end(bad, Outcome.LOST)
    waiting = scene.ask()
    assert waiting.waits
    scene.end(good)
    scene.turn()
    assert waiting.at == "a"


def test_an_ejected_replica_stays_out_until_it_is_let_back() -> None:
    scene = Scene()
    scene.table(model("a"))
    assert scene.ask().at == "a"
    assert scene.admission.eject(A)
    waiting = scene.ask()
    scene.wait(30)
    assert waiting.waits
    scene.admission.let_back(A)
    scene.turn()
    assert waiting.at == "a"
    scene.admission.let_back(A)  # once more is nothing


def test_one_that_keeps_failing_is_told_of() -> None:
    told: list[tuple[str, str]] = []
    scene = Scene()
    scene.admission.doubted = lambda replica, endpoint: told.append((replica, endpoint))
    scene.table(model("a"))
    for after_s in (0.0, 1.1, 2.1):
        scene.wait(after_s)
        assert not told
        scene.end(scene.ask(), Outcome.LOST)
    assert told == [("a", "unix:/a")]


def test_a_lost_request_goes_to_another_replica() -> None:
    scene = Scene()
    scene.table(model("a", "b", "c"))
    asked = scene.ask()
    assert asked.at == "a"
    scene.lose(asked)
    assert asked.at != "a"
    assert asked.claim is not None
    assert asked.claim.retry


def test_where_there_is_no_other_replica_it_goes_back_to_the_same() -> None:
    scene = Scene()
    scene.table(model("a"))
    asked = scene.lose(scene.ask())
    scene.wait(0.5)
    assert asked.waits
    scene.wait(0.6)
    assert asked.at == "a"


def test_a_request_is_tried_again_twice_at_most() -> None:
    scene = Scene()
    scene.table(model("a", "b", "c", "d"))
    asked = scene.lose(scene.lose(scene.ask()))
    assert asked.claim is not None
    assert not scene.admission.may_retry(asked.claim, 2)


def test_a_request_is_not_tried_again_when_its_model_is_gone() -> None:
    scene = Scene()
    scene.table(model("a"))
    claim = scene.ask().claim
    assert claim is not None
    scene.table()
    assert not scene.admission.may_retry(claim, 0)


def test_half_of_all_requests_are_lost_and_none_fails_though_few_are_tried_again_at_once() -> None:
    """Promises R1 and R2 together: a fifth of the active ones at most are retries, and the rest waits for a moment."""
    scene = Scene()
    scene.table(model("a", "b"))
    asked = [scene.ask() for _ in range(64)]
    lost = [one for one in asked if one.at == "a"]
    assert len(lost) == 32
    scene.table(model("b"))
    for one in lost:
        scene.lose(one)
        assert one.error is None
        assert scene.flying("b") <= 32 + 12
    rounds = 0
    while any(one.waits for one in lost):
        going = [one for one in lost if one.claim is not None and one.claim.retry]
        assert 1 <= len(going) <= 12  # of 64 active ones
        scene.end(going[0])
        asked.remove(going[0])
        scene.turn()
        rounds += 1
    assert rounds <= 32
    assert all(one.error is None and one.claim is not None for one in lost)


def test_few_requests_are_all_tried_again_at_once() -> None:
    scene = Scene()
    scene.table(model("a", "b", "c"))
    asked = [scene.ask(tokens=1) for _ in range(3)]
    for one in asked:
        scene.lose(one)
        scene.wait(9)  # or the last of the replicas would be out
    assert all(one.claim is not None for one in asked)


def test_an_answered_retry_makes_room_for_the_next() -> None:
    scene = Scene()
    scene.table(model("a", "b"))
    asked = [scene.ask() for _ in range(10)]
    for one in asked:
        if one.at == "a":
            scene.lose(one)
    going = [one for one in asked if one.claim is not None and one.claim.retry]
    waiting = [one for one in asked if one.waits]
    assert (len(going), len(waiting)) == (3, 2)
    assert going[0].claim is not None
    scene.admission.answered(going[0].claim)
    scene.admission.answered(going[0].claim)
    scene.turn()
    assert [one.waits for one in waiting] == [False, True]


def test_a_retry_waits_no_longer_than_its_caller() -> None:
    scene = Scene()
    scene.table(model("a", "b"))
    asked = [scene.ask(timeout_s=20) for _ in range(10)]
    for one in asked:
        if one.at == "a":
            scene.lose(one)
    waiting = [one for one in asked if one.waits]
    scene.wait(20.1)
    assert waiting
    for one in waiting:
        assert isinstance(one.error, EngineLost), "not that it came too much: its engine is gone"
        assert dict(one.error.headers())["retry-after"]


def test_a_retry_whose_time_is_over_already_does_not_wait() -> None:
    scene = Scene()
    scene.table(model("a"))
    asked = scene.ask(timeout_s=3)
    scene.wait(4)
    assert isinstance(scene.lose(asked).error, EngineLost)
    assert scene.held == 0


def test_a_retry_that_leaves_gives_its_part_of_the_budget_back() -> None:
    scene = Scene()
    scene.table(model("a"))
    asked = [scene.ask() for _ in range(5)]
    for one in asked:
        scene.lose(one)
    assert all(one.waits for one in asked), "three for the replica, two for the budget"
    for one in asked[:3]:
        scene.admission.leave(one)
    scene.wait(1.2)
    assert [one.claim is not None for one in asked] == [False, False, False, True, True]


def test_a_retry_that_leaves_while_the_budget_is_used_up_gets_no_place() -> None:
    scene = Scene()
    scene.table(model("a", "b"))
    asked = [scene.ask(timeout_s=20) for _ in range(12)]
    for one in asked:
        if one.at == "a":
            scene.lose(one)
    left = next(one for one in asked if one.waits)
    scene.admission.leave(left)
    for one in asked:
        if one.claim is not None:
            scene.end(one)
    scene.turn()
    for one in asked:
        if one.claim is not None:
            scene.end(one)  # those whose turn it was then
    assert (left.told, left.claim) == (0, None)
    assert scene.admission.in_flight == 0


def test_a_retry_is_before_those_who_came_later() -> None:
    scene = Scene()
    scene.table(model("a", slots=1))
    asked = scene.ask()
    later = scene.ask()
    scene.lose(asked)
    scene.wait(1.1)
    assert asked.at == "a"
    assert later.waits


def test_a_full_queue_does_not_refuse_a_retry() -> None:
    scene = Scene(hold_limit=1)
    scene.table(model("a", slots=1))
    asked, later = scene.ask(), scene.ask()
    scene.lose(asked)
    assert asked.waits
    assert later.waits


def test_one_models_retries_do_not_use_up_anothers() -> None:
    scene = Scene()
    scene.table(model("a"), model("b", "c", name="n"))
    for one in [scene.ask("m") for _ in range(8)]:
        scene.lose(one)
    assert scene.lose(scene.ask("n")).at == "c"
