"""R1, R2, R3: replicas that are killed, that break every connection, that hang."""

from __future__ import annotations

import signal
import time

import pytest

from models.store.records import ModelRoute
from tests.gateway.plane.promises.crowd import Crowd, at_once
from tests.gateway.plane.promises.town import Town
from tests.gateway.plane.protocol.house import wait_until

pytestmark = pytest.mark.chaos

WORK = {"work_s": 0.01, "events": 6, "every_s": 0.003}


@pytest.mark.parametrize("engines", [2, 3])
def test_r1_kill_9_of_one_replica_under_load(town: Town, engines: int) -> None:
    town.open(engines=engines)
    town.route(town.model("m"))
    crowd = Crowd(town, 24, streams=True, how=WORK)
    wait_until(lambda: crowd.asked > 100)
    victim = max(town.engines, key=lambda engine: engine.stats()["answering"])
    victim.kill()
    crowd.go_on_for(200)
    victim.start()  # what the controller does; it is back in rotation by itself
    wait_until(victim.was_asked, within_s=10.0)
    felt = crowd.stop()
    assert felt.wrong == []
    assert felt.whole > 200


def test_r1_all_of_them_one_after_the_other(town: Town) -> None:
    town.open(engines=3)
    town.route(town.model("m"))
    crowd = Crowd(town, 16, streams=True, how=WORK)
    for engine in town.engines:
        crowd.go_on_for(60)
        engine.kill()
        crowd.go_on_for(60)
        engine.start()
        wait_until(engine.was_asked, within_s=10.0)
    assert crowd.stop().wrong == []


def test_r2_what_breaks_is_not_made_worse_by_retries(town: Town) -> None:
    """Every request dies in every engine: none is tried more than three times, and each caller gets an answer."""
    town.open(engines=3)
    town.route(town.model("m"))
    request = town.request("m", ("x-request-timeout", "1"), how={"die": True, "work_s": 0.05})
    answers = at_once(town, [request] * 60)
    assert {answer.status for _, answer in answers} == {503}
    assert all(answer.header("retry-after") for _, answer in answers)
    tries: dict[str, int] = {}
    for engine in town.engines:
        for request_id, count in engine.stats()["by_id"].items():
            tries[request_id] = tries.get(request_id, 0) + count
    assert len(tries) == 60
    assert max(tries.values()) <= 3


def test_r2_retries_are_a_fifth_of_the_active_requests_at_most(town: Town) -> None:
    """100 requests at one engine break at once; how many of them are at the other at the same time is bounded."""
    town.open(engines=2)
    first, second = town.engines
    both = town.model("m")
    town.route(ModelRoute(model_id="m", tier="gpu", replicas=both.replicas[:1]))
    callers = [town.caller().send(town.request(how={"work_s": 0.3})) for _ in range(100)]
    wait_until(lambda: first.stats()["answering"] == 100)
    town.route(both)
    first.kill()
    most = 0
    give_up_s = time.monotonic() + 15
    while (stats := second.stats())["asked"] < 100 and time.monotonic() < give_up_s:
        most = max(most, stats["answering"])
    assert 1 <= most <= 20
    for caller in callers:
        assert caller.answer().status == 200, "those over the budget wait, they do not fail"
        caller.close()


def test_r3_a_replica_that_hangs_is_out_of_rotation_within_10_s(town: Town) -> None:
    """Nobody tells the gateway: its callers would wait for ever."""
    town.open(engines=2)
    town.route(town.model("m"))
    crowd = Crowd(town, 12, how={"work_s": 0.01})
    wait_until(lambda: crowd.asked > 50)
    victim, other = town.engines
    victim.signal(signal.SIGSTOP)
    stopped_s = time.monotonic()
    wait_until(lambda: crowd.longest_wait_s() > 1.0)  # some are caught by it
    wait_until(lambda: crowd.longest_wait_s() < 0.5)  # and go on, elsewhere
    assert time.monotonic() - stopped_s < 10.0
    before = crowd.asked
    crowd.go_on_for(300)
    assert max(crowd.felt.latencies_s[before + 12 :]) < 2.0, "it gets no more of them"
    assert other.stats()["asked"] >= 300
    victim.signal(signal.SIGCONT)
    had = victim.stats()["asked"]
    wait_until(lambda: victim.stats()["asked"] > had + 5)  # let back once it answers
    assert crowd.stop().wrong == []


def test_r3_a_stream_in_a_hanging_replica_is_not_taken_for_a_whole_one(town: Town) -> None:
    """After its first byte it is never tried again: it goes on when the engine does, or ends with an error."""
    town.open(engines=1)
    town.route(town.model("m"))
    (victim,) = town.engines
    with town.caller() as caller:
        caller.send(town.request(stream=True, how={"events": 50, "every_s": 0.01}))
        wait_until(lambda: caller.socket.recv(1, 2) == b"H")  # MSG_PEEK: its head is here
        victim.signal(signal.SIGSTOP)
        with town.caller() as other:
            assert other.ask(town.request("nobody")).status == 404
        victim.signal(signal.SIGCONT)
        last = caller.answer().events[-1]
    assert last == b"data: [DONE]" or last.startswith(b"event: error\n")
    assert victim.stats()["asked"] == 1
