"""The caller's work is done inside gevent's loop, without a greenlet being switched for it."""

from __future__ import annotations

import gevent
import pytest

from loadtests.client.address import find_address
from loadtests.client.call import Call
from loadtests.client.moments import clock
from loadtests.generator.hub import Turning, new_caller
from tests.loadtests.client.test_caller import asked
from tests.loadtests.fake_service import FakeModel, FakeService

PATIENCE_S = 20.0


def wait_for(ended: list[Call], count: int) -> None:
    give_up_s = clock() + PATIENCE_S
    while len(ended) < count:
        assert clock() < give_up_s
        gevent.sleep(0.001)


def test_streams_go_on_while_greenlets_sleep() -> None:
    words = tuple("abcdefgh")
    with FakeService({"m": FakeModel(words, gap_s=0.005, state="ready")}).running() as service:
        caller = new_caller(find_address(service.target), 10.0, keep=True)
        ended: list[Call] = []
        with Turning(caller):
            for _ in range(5):
                caller.begin(asked(), ended.append)
            wait_for(ended, 5)
        assert [(call.error, len(call.token_times_s)) for call in ended] == [("", len(words))] * 5
        caller.close()


def test_what_is_due_is_done_at_its_time_while_greenlets_sleep() -> None:
    with FakeService({}).running() as service:
        caller = new_caller(find_address(service.target), 10.0, keep=True)
        began_s, done = clock(), list[float]()
        with Turning(caller):
            for after_s in (0.05, 0.02):
                caller.at(began_s + after_s, lambda: done.append(clock() - began_s))
            while len(done) < 2:
                assert clock() < began_s + PATIENCE_S
                gevent.sleep(0.001)
        assert done == sorted(done)
        assert done[0] >= 0.02
        assert done[1] >= 0.05
        caller.close()


def test_a_failure_in_one_call_is_told_and_leaves_the_others_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeService({"m": FakeModel(state="ready")}).running() as service:
        caller = new_caller(find_address(service.target), 10.0, keep=True)
        ended: list[Call] = []

        def broken(call: Call) -> None:
            raise RuntimeError("whoever asked has a mistake")

        with Turning(caller):
            caller.begin(asked(), broken)
            caller.begin(asked(), ended.append)
            wait_for(ended, 1)
            give_up_s = clock() + PATIENCE_S
            while caller.open_calls:
                assert clock() < give_up_s
                gevent.sleep(0.001)
        assert ended[0].error == ""
        caller.close()
    assert "whoever asked has a mistake" in capsys.readouterr().err


def test_nothing_is_done_once_it_is_left() -> None:
    with FakeService({"m": FakeModel(state="ready")}).running() as service:
        caller = new_caller(find_address(service.target), 10.0, keep=True)
        ended: list[Call] = []
        with Turning(caller):
            pass
        caller.begin(asked(), ended.append)
        gevent.sleep(0.05)
        assert (ended, caller.open_calls) == ([], 1)
        caller.abort_all("unfinished", "the test is over")
        caller.close()
