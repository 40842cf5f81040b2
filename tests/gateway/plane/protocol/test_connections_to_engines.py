"""Connections to engines are kept and used again, and a stale one costs nobody a request."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.gateway.plane.protocol.house import House
from tests.gateway.plane.protocol.raw_engine import EVENTS, PLAIN, Asked, Link, answers, in_chunks, streamed, whole
from tests.gateway.plane.protocol.wire import chunked
from tests.gateway.world import chat_body


def ask(house: House, model: str = "m", *, stream: bool = False) -> None:
    with house.caller() as caller:
        answer = caller.ask(house.request(model, stream=stream))
    assert (answer.status, answer.body) == (200, b"".join(EVENTS) if stream else PLAIN)


@pytest.mark.parametrize("stream", [False, True])
def test_one_is_enough_for_callers_who_come_one_after_the_other(house: House, stream: bool) -> None:
    ask(house)
    before = house.engine.connections
    for _ in range(20):
        ask(house, stream=stream)
    assert house.engine.connections == before


def test_it_is_not_used_again_when_the_engine_says_so(house: House) -> None:
    async def last(link: Link, asked: Asked) -> None:
        assert asked.turn == 0
        await link.say(whole(PLAIN, "connection: close"))

    with house.playing(last):
        house.soon(house.engine.end_idle_links)
        for _ in range(5):
            ask(house, house.fresh())
    assert [asked.turn for asked in house.engine.asked] == []


def test_one_that_the_engine_closed_while_it_was_idle_is_not_noticed(house: House) -> None:
    for _ in range(10):
        ask(house)
        house.soon(house.engine.end_idle_links)
    assert len(house.engine.asked) == 10


@pytest.mark.parametrize("how", ["ends", "dies"])
def test_one_that_closes_as_the_request_arrives_is_tried_again_on_a_new_one(house: House, how: str) -> None:
    """The engine let go of an idle connection; the request was already on its way and nobody has read it."""

    async def once(link: Link, asked: Asked) -> None:
        if asked.turn == 0:
            await answers(link, asked)
        elif how == "ends":
            await link.end()
        else:
            link.die()

    model = house.fresh()
    with house.playing(once):
        house.soon(house.engine.end_idle_links)
        for _ in range(6):
            ask(house, model)


def test_a_new_connection_that_breaks_is_no_stale_one(house: House) -> None:
    """It is the engine then: the request goes to another replica, and counts as a retry."""

    async def dies(link: Link, asked: Asked) -> None:
        link.die()

    house.soon(house.engine.end_idle_links)
    with house.playing(dies), house.caller() as caller:
        answer = caller.ask(house.request(house.fresh(), ("x-request-timeout", "0.1")))
    assert answer.status == 503


@pytest.mark.parametrize(
    "noise", [b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n", whole(b'{"evil":1}'), b"\r\n", b"x"]
)
def test_what_an_idle_one_says_is_nobodys_answer(house: House, noise: bytes) -> None:
    passed_on, said = asyncio.Event(), asyncio.Event()

    async def adds(link: Link, asked: Asked) -> None:
        await answers(link, asked)
        if not passed_on.is_set():
            await passed_on.wait()  # the connection is idle by then
            await link.say(noise)
            said.set()

    with house.playing(adds):
        ask(house)
        house.soon(passed_on.set)
        house.until(said.is_set)
        house.settled()
        for _ in range(5):
            ask(house)


def test_many_at_once_each_have_their_own(house: House) -> None:
    go_on = asyncio.Event()

    async def waits(link: Link, asked: Asked) -> None:
        await go_on.wait()
        await link.say(whole(json.dumps(asked.how).encode()))

    with house.playing(waits):
        callers = [house.caller().send(house.request(how={"number": number})) for number in range(100)]
        house.until(lambda: house.engine.answering == 100)
        assert len({asked.connection for asked in house.engine.asked}) == 100
        house.soon(go_on.set)
        for number, caller in enumerate(callers):
            assert caller.answer().json == {"number": number}
            caller.close()


class TestEarlyAnswers:
    """An engine that answers before it has read the whole request."""

    big = json.dumps(chat_body("m", pad="x" * (4 << 20))).encode()

    @pytest.mark.parametrize("ends", [False, True], ids=["it reads on", "it ends the connection"])
    def test_a_refusal_reaches_the_caller(self, house: House, ends: bool) -> None:
        async def refuses(link: Link, asked: Asked) -> None:
            if int(asked.header("content-length") or 0) > 1 << 20:
                refusal = json.dumps(
                    {"error": {"message": "Too long.", "type": "BadRequestError", "param": None, "code": 400}}
                )
                await link.say(whole(refusal.encode(), "connection: close", status="400 Bad Request"))
                if ends:
                    await link.end()

        house.engine.on_head = refuses
        with house.caller() as caller:
            answer = caller.ask(house.head(("content-length", str(len(self.big)))) + self.big)
            assert answer.status in (400, 503), answer  # what it wrote may be lost with the connection (RFC 9112 9.6)
            if not ends:
                assert answer.error()["message"] == "Too long."
            house.engine.on_head = None
            house.engine.play = answers
            assert caller.ask(house.request("trio")).body == PLAIN

    def test_an_answer_that_comes_early_is_the_answer(self, house: House) -> None:
        async def early(link: Link, asked: Asked) -> None:
            await link.say(whole())

        async def nothing(link: Link, asked: Asked) -> None:
            pass

        house.engine.on_head, house.engine.play = early, nothing
        with house.caller() as caller:
            answer = caller.ask(house.head(("content-length", str(len(self.big)))) + self.big)
            assert answer.body == PLAIN
            house.engine.anew()
            assert caller.ask(house.request()).body == PLAIN


@pytest.mark.parametrize(
    "answer",
    [
        in_chunks(PLAIN, 1),
        in_chunks(PLAIN).replace(b"\r\n{", b";a=b\r\n{", 1),
        in_chunks(PLAIN, end=b"0\r\nx-trailer: 1\r\n\r\n"),
        in_chunks(PLAIN, end=b"000;x\r\n\r\n"),
        b"HTTP/1.1 200\r\n" + whole().partition(b"\r\n")[2],
        b"HTTP/1.1 200 \r\n" + whole().partition(b"\r\n")[2],
        whole().replace(b"content-type: ", b"Content-Type:").replace(b"content-length: ", b"CONTENT-LENGTH:  "),
        whole(PLAIN, "connection: keep-alive", "keep-alive: timeout=5", "transfer-encoding-x: y"),
    ],
    ids=["bytes", "extension", "trailer", "zeros", "no reason", "empty reason", "cases", "keep-alive"],
)
def test_ways_to_frame_an_answer(house: House, answer: bytes) -> None:
    async def says(link: Link, asked: Asked) -> None:
        await link.say(answer)

    with house.playing(says), house.caller() as caller:
        for _ in range(3):
            got = caller.ask(house.request())
            assert (got.status, got.body, got.header("content-type")) == (200, PLAIN, "application/json")
            assert got.header("keep-alive") is None


@pytest.mark.parametrize("sizes", [(1,), (7, 100), (1 << 20,)])
def test_however_a_stream_is_cut_into_chunks_its_events_are_the_same(house: House, sizes: tuple[int, ...]) -> None:
    head = streamed()[: streamed().index(b"\r\n\r\n") + 4]

    async def says(link: Link, asked: Asked) -> None:
        await link.say(head + chunked(b"".join(EVENTS), *sizes))

    with house.playing(says), house.caller() as caller:
        for _ in range(3):
            got = caller.ask(house.request(stream=True))
            assert got.body == b"".join(EVENTS)


def test_streams_with_a_length_or_until_the_end(house: House) -> None:
    events = b"".join(EVENTS)

    async def says(link: Link, asked: Asked) -> None:
        if asked.how["framing"] == "length":
            await link.say(whole(events, kind="text/event-stream"))
        else:
            await link.say(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + events)
            await link.end()

    with house.playing(says), house.caller() as caller:
        for framing in ("length", "end", "length"):
            assert caller.ask(house.request(stream=True, how={"framing": framing})).body == events
