"""R10: a caller who goes away, at whatever moment and in whatever way, frees what it held."""

from __future__ import annotations

import json
import time

import pytest

from tests.gateway.plane.protocol.house import House, wait_until
from tests.gateway.plane.protocol.raw_engine import EVENTS, PLAIN, STREAM_HEAD, Asked, Link
from tests.gateway.plane.protocol.wire import Caller
from tests.gateway.world import chat_body

FREE_WITHIN_S = 1.0  # promised

HOW = ["resets", "closes", "half-closes"]


def leave(caller: Caller, how: str) -> None:
    """A caller that half-closes has left as well: what it waits for it could not ask for again."""
    if how == "resets":
        caller.reset()
    elif how == "closes":
        caller.close()
    else:
        caller.half_close()


async def says_nothing(link: Link, asked: Asked) -> None:
    await link.gone()


async def says_its_head(link: Link, asked: Asked) -> None:
    await link.say(STREAM_HEAD)
    await link.gone()


async def says_an_event(link: Link, asked: Asked) -> None:
    await link.say(STREAM_HEAD + b"%x\r\n%b\r\n" % (len(EVENTS[0]), EVENTS[0]))
    await link.gone()


async def says_half_an_event(link: Link, asked: Asked) -> None:
    await link.say(STREAM_HEAD + b"%x\r\n%b" % (len(EVENTS[0]), EVENTS[0][:20]))
    await link.gone()


async def says_half_an_answer(link: Link, asked: Asked) -> None:
    await link.say(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{")
    await link.gone()


async def says_much(link: Link, asked: Asked) -> None:
    """More than anybody reads: it is stopped by back-pressure when the caller leaves."""
    await link.say(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900000000\r\n\r\n")
    while not link.writer.transport.is_closing():
        await link.say(b" " * (1 << 16))


STAGES = [says_nothing, says_its_head, says_an_event, says_half_an_event, says_half_an_answer, says_much]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("stage", STAGES, ids=[stage.__name__ for stage in STAGES])
def test_the_engine_is_told_within_a_second(house: House, stage: object, how: str) -> None:
    with house.playing(stage) as engine:
        caller = house.caller().send(house.request(house.fresh(), stream=stage in (says_its_head, says_an_event)))
        wait_until(lambda: engine.answering == 1)
        house.settled()
        left_s = time.monotonic()
        leave(caller, how)
        wait_until(lambda: engine.answering == 0)
        assert time.monotonic() - left_s < FREE_WITHIN_S
        caller.close()
    with house.caller() as other:
        assert other.ask(house.request()).body == PLAIN


@pytest.mark.parametrize("how", HOW)
def test_in_the_middle_of_the_body_nothing_reaches_an_engine(house: House, how: str) -> None:
    body = json.dumps(chat_body("m")).encode()
    partly = [
        house.head(("content-length", str(len(body)))) + body[:-1],
        house.head(("transfer-encoding", "chunked")) + b"%x\r\n%b\r\n" % (len(body), body),
        house.head(("transfer-encoding", "chunked")) + b"%x\r\n%b\r\n0\r\n" % (len(body), body),
        house.head()[:-2],
        house.head()[:30],
    ]
    for part in partly:
        with house.caller() as caller:
            caller.send(part)
            house.settled()
            leave(caller, how)
            if how == "half-closes":
                rest = caller.reader.until_closed()
                assert rest == b"" or rest.startswith(b"HTTP/1.1 400"), rest
    house.settled()
    assert house.engine.asked == []


@pytest.mark.parametrize("how", HOW)
def test_while_it_is_held_its_place_in_the_queue_is_free_again(house: House, how: str) -> None:
    house.route(cold=0)
    callers = [house.caller().send(house.request("cold", stream=number % 2 == 0)) for number in range(5)]
    house.run(house.world.until_held("cold", 5))
    for caller in callers:
        leave(caller, how)
    house.run(house.world.until_held("cold", 0))
    for caller in callers:
        caller.close()


def test_a_held_caller_who_left_gets_no_place_in_the_engine(house: House) -> None:
    house.route(cold=0)
    gone, there = house.caller().send(house.request("cold")), house.caller().send(house.request("cold"))
    house.run(house.world.until_held("cold", 2))
    gone.reset()
    house.route(cold=1)
    assert there.answer().body == PLAIN
    there.close()
    assert len(house.engine.asked) == 1
    house.route(cold=0)


def test_half_closed_after_its_answer_is_a_normal_end(house: House) -> None:
    with house.caller() as caller:
        assert caller.ask(house.request()).body == PLAIN
        caller.half_close()
        assert caller.is_closed()


def test_a_thousand_who_come_and_go_leave_nothing_behind(house: House) -> None:
    with house.playing(says_nothing) as engine:
        for _ in range(10):
            callers = [house.caller().send(house.request("trio", stream=True)) for _ in range(100)]
            wait_until(lambda: engine.answering == 100)
            for caller in callers:
                caller.reset()
            wait_until(lambda: engine.answering == 0)
    house.run(house.world.until_idle("trio"))
