"""Users of a closed load: one conversation after the other, each when the answer before is there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import gevent
import pytest

from loadtests.client.address import find_address
from loadtests.client.call import UNFINISHED
from loadtests.client.moments import clock
from loadtests.generator.hub import Turning, new_caller
from loadtests.generator.worker import REST_S, Share, Worker
from loadtests.load.plan import Phase, Plan
from loadtests.load.settings import Settings
from loadtests.load.wish import Wish, Writer
from tests.loadtests.fake_service import API_KEY, FakeModel, FakeService

PLAN = Plan((Phase("steady", 0.0, 60.0, users=1),), 60.0)


@contextlib.contextmanager
def working(model: FakeModel, plan: Plan = PLAN, **given: Any) -> Iterator[tuple[Worker, FakeService]]:
    settings = Settings(**{"models": ("m",), "think_s": 0.01, "spread_s": 0.0, **given})
    with FakeService({"m": model}).running() as service:
        caller = new_caller(find_address(service.target), 10.0, keep=True)
        worker = Worker(settings, plan, Writer(settings, {"": API_KEY}), caller, Share(0, 1, clock()))
        try:
            with Turning(caller):
                yield worker, service
                worker.finish()
        finally:
            caller.close()


def test_a_user_asks_again_when_the_answer_is_there() -> None:
    with working(FakeModel(state="ready", gap_s=0.005)) as (worker, _):
        converse = worker.user()
        for _ in range(3):
            converse()
        rows = worker.take(100).rows
    assert [row.error for row in rows] == [""] * 3
    assert all(row.scheduled_us is None for row in rows), "a closed load has no schedule"
    for earlier, later in pairwise(rows):
        assert later.sent_us >= earlier.end_us


def test_a_conversation_is_its_turns_with_thought_between() -> None:
    with working(FakeModel(state="ready"), turns=3, think_s=0.03) as (worker, service):
        worker.user()()
        rows = worker.take(100).rows
    assert [row.turn for row in rows] == [1, 2, 3]
    assert all(later.sent_us - earlier.end_us >= 30_000 for earlier, later in pairwise(rows))
    assert [len(asked["messages"]) for asked in service.asked] == [1, 3, 5]


def test_no_turn_begins_after_the_end() -> None:
    ends = Plan((Phase("steady", 0.0, 0.15, users=1),), 0.15)
    with working(FakeModel(state="ready"), ends, turns=3, think_s=0.2) as (worker, service):
        assert worker.begins
        worker.user()()
        batch = worker.take(100)
    assert [row.turn for row in batch.rows] == [1]
    assert batch.health is not None
    assert batch.health.planned == batch.health.sent == len(service.asked) == 1


def test_who_is_refused_rests_before_asking_again() -> None:
    with working(FakeModel(refusal=(503, "no room"), state="ready"), turns=3) as (worker, service):
        converse = worker.user()
        began_s = clock()
        converse()
        assert clock() - began_s >= REST_S
        (row,) = worker.take(100).rows
    assert (row.error, row.turn) == ("model_start_failed", 1)
    assert len(service.asked) == 1, "what was said cannot go on without its answer"


def test_users_differ_and_are_the_same_in_another_run() -> None:
    def lengths() -> list[list[int]]:
        with working(FakeModel(state="ready")) as (worker, service):
            users = [worker.user(), worker.user()]
            for _ in range(4):
                for converse in users:
                    converse()
            worker.finish()
            counts = [len(asked["messages"][0]["content"].split()) for asked in service.asked]
            return [counts[0::2], counts[1::2]]

    first, again = lengths(), lengths()
    assert first == again
    assert first[0] != first[1]


def test_a_user_who_is_stopped_leaves_a_request_without_an_answer() -> None:
    with working(FakeModel(state="ready", breaks="hang")) as (worker, _):
        user = gevent.spawn(worker.user())
        give_up_s = clock() + 20
        while not worker.caller.open_calls:
            assert clock() < give_up_s
            gevent.sleep(0.005)
        user.kill()
        (row,) = worker.take(100).rows
        assert worker.caller.open_calls == 0
    assert row.error == UNFINISHED


def test_a_single_request_is_planned_sent_and_told() -> None:
    with working(FakeModel(state="ready")) as (worker, _):
        call = worker.one(Wish("m", tag="disk"))
        batch = worker.take(100)
    assert call.error == ""
    assert [row.tag for row in batch.rows] == ["disk"]
    assert batch.health is not None
    assert batch.health.sent == 1
    assert not batch.done


@pytest.mark.parametrize("most", [1, 2, 5])
def test_rows_are_handed_out_a_few_at_a_time_and_none_is_lost(most: int) -> None:
    with working(FakeModel(state="ready")) as (worker, _):
        for number in range(4):
            worker.one(Wish("m", tag=str(number)))
        worker.finish()
        batches = []
        while True:
            batches.append(worker.take(most))
            if batches[-1].done:
                break
    assert [row.tag for batch in batches for row in batch.rows] == ["0", "1", "2", "3"]
    assert all(len(batch.rows) <= most for batch in batches)
    assert [batch.done for batch in batches] == [False] * (len(batches) - 1) + [True]
