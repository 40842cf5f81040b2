"""Several requests on one connection, sent before the answers to the earlier ones are there."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.gateway.plane.protocol.house import House
from tests.gateway.plane.protocol.raw_engine import EVENTS, PLAIN, Asked, Link, streamed, whole
from tests.gateway.plane.protocol.wire import head


def numbered(asked: Asked) -> bytes:
    return json.dumps({"number": asked.how.get("number")}).encode()


async def numbers(link: Link, asked: Asked) -> None:
    await link.say(streamed() if asked.json.get("stream") else whole(numbered(asked)))


def test_answers_come_in_the_order_of_the_requests(house: House) -> None:
    with house.playing(numbers), house.caller() as caller:
        caller.send(b"".join(house.request(how={"number": number}) for number in range(50)))
        assert [caller.answer().json["number"] for _ in range(50)] == list(range(50))


def test_a_slow_first_one_is_not_overtaken(house: House) -> None:
    go_on = asyncio.Event()

    async def slow_first(link: Link, asked: Asked) -> None:
        if asked.how["number"] == 0:
            await go_on.wait()
        await link.say(whole(numbered(asked)))

    with house.playing(slow_first), house.caller() as caller:
        caller.send(b"".join(house.request(how={"number": number}) for number in range(3)))
        house.until(lambda: house.engine.asked)
        house.settled()
        house.soon(go_on.set)
        assert [caller.answer().json["number"] for _ in range(3)] == [0, 1, 2]


def test_streams_refusals_and_documents_in_a_row(house: House) -> None:
    wanted = [
        (house.request(stream=True), 200),
        (house.request("nobody"), 404),
        (head(method="GET", path="/health"), 200),
        (house.request(stream=True), 200),
        (head(method="OPTIONS"), 204),
        (house.request(), 200),
        (head(("content-length", "2")) + b"{}", 401),
        (house.request(), 200),
    ]
    with house.caller() as caller:
        caller.send(b"".join(request for request, _ in wanted))
        answers = [caller.answer() for _ in wanted]
    assert [answer.status for answer in answers] == [status for _, status in wanted]
    assert answers[0].body == answers[3].body == b"".join(EVENTS)
    assert answers[5].body == answers[7].body == PLAIN
    assert len({answer.header("x-request-id") for answer in answers}) == len(wanted)


def test_nothing_is_answered_after_the_last_request_of_a_connection(house: House) -> None:
    with house.caller() as caller:
        caller.send(house.request() + house.request("m", ("connection", "close")) + house.request())
        assert not caller.answer().closing
        assert caller.answer().closing
        assert caller.is_closed()
    assert len(house.engine.asked) == 2


def test_a_broken_one_ends_it_after_the_good_ones_before(house: House) -> None:
    with house.caller() as caller:
        caller.send(house.request() + b"nonsense\r\n\r\n" + house.request())
        assert caller.answer().body == PLAIN
        assert caller.answer().status == 400
        assert caller.is_closed()
    assert len(house.engine.asked) == 1


@pytest.mark.parametrize("blank", [b"\r\n", b"\r\n\r\n"])
def test_blank_lines_between_requests_are_read_over(house: House, blank: bytes) -> None:
    """RFC 9112 section 2.2: old clients send one after a body."""
    with house.caller() as caller:
        caller.send(house.request() + blank + house.request())
        assert [caller.answer().body, caller.answer().body] == [PLAIN, PLAIN]


def test_a_flood_of_requests_that_nobody_reads_the_answers_of_stops_being_read(house: House) -> None:
    """64 MiB of requests on one connection: the gateway neither keeps them nor their answers."""

    async def much(link: Link, asked: Asked) -> None:
        await link.say(whole(b" " * (200 << 10)))

    flood = house.request(pad="x" * 4000) * 200
    sent = 0
    with house.playing(much), house.caller(receive_bytes=4096) as caller:
        caller.socket.settimeout(1.0)
        try:
            while sent < 64 << 20:
                sent += caller.socket.send(flood[sent % len(flood) :])
        except TimeoutError:
            pass
        assert sent < 64 << 20, "it took all of them"
        house.settled()
    house.until(lambda: house.engine.answering == 0)
    with house.caller() as other:
        assert other.ask(house.request()).body == PLAIN


def test_a_caller_who_leaves_takes_the_requests_behind_it_along(house: House) -> None:
    async def never(link: Link, asked: Asked) -> None:
        await link.gone()

    with house.playing(never):
        caller = house.caller().send(house.request() * 5)
        house.until(lambda: house.engine.answering == 1)
        caller.reset()
        house.until(lambda: house.engine.answering == 0)
        house.settled()
        assert len(house.engine.asked) == 1
