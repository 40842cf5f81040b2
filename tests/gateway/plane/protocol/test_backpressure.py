"""Whoever reads slowly stops whoever writes, in both directions; what lies in between stays small."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.gateway.plane.protocol.house import House, wait_until
from tests.gateway.plane.protocol.raw_engine import PLAIN, Asked, Link, answers, event
from tests.gateway.world import chat_body

MUCH = 64 << 20
IN_BETWEEN = 24 << 20  # buffers of three sockets as the system makes them, and ours


class Writes:
    """As much as it gets rid of, and counts it."""

    def __init__(self, house: House, kind: str) -> None:
        self.house = house
        self.kind = kind
        self.written = 0

    async def __call__(self, link: Link, asked: Asked) -> None:
        if self.kind == "a length":
            head = b"content-type: application/json\r\ncontent-length: %d" % MUCH
            piece = b" " * (1 << 16)
        else:
            kind = b"text/event-stream" if self.kind == "events" else b"application/json"
            head = b"content-type: %b\r\ntransfer-encoding: chunked" % kind
            data = event("x" * 900) if self.kind == "events" else b" " * 60_000
            piece = b"%x\r\n%b\r\n" % (len(data), data)
        await link.say(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
        while self.written + len(piece) <= MUCH:
            await link.say(piece)
            self.written += len(piece)
        if self.kind != "a length":
            await link.say(b"0\r\n\r\n")

    def stands_still(self) -> bool:
        """Nothing more goes out, as far as can be seen by asking the gateway something else meanwhile."""
        before = self.written
        for _ in range(20):
            self.house.settled()
        return self.written == before and before > 0


@pytest.mark.parametrize("kind", ["a length", "chunks", "events"])
def test_a_caller_who_reads_slowly_stops_the_engine(house: House, kind: str) -> None:
    play = Writes(house, kind)
    with house.playing(play), house.caller(receive_bytes=4096) as caller:
        caller.send(house.request(house.fresh(), stream=kind == "events"))
        wait_until(play.stands_still)
        assert play.written < IN_BETWEEN, "it lies in the gateway's memory"
        answer = caller.answer()
        assert answer.status == 200
        if kind == "a length":
            assert len(answer.body) == MUCH
        else:
            assert len(answer.body) > MUCH * 0.95


def test_others_are_served_while_one_does_not_read(house: House) -> None:
    play = Writes(house, "events")
    with house.playing(play):
        sleepers = [house.caller(receive_bytes=4096).send(house.request(house.fresh(), stream=True)) for _ in range(5)]
        wait_until(play.stands_still)
        house.engine.play = answers
        with house.caller() as caller:
            for _ in range(20):
                assert caller.ask(house.request()).body == PLAIN
        for sleeper in sleepers:
            sleeper.reset()
        wait_until(lambda: house.engine.answering == 0)


def test_an_engine_that_does_not_read_stops_the_caller_or_nobody(house: House) -> None:
    """The body is in the gateway, within its cap; that its engine takes it slowly is nobody else's matter."""
    body = json.dumps(chat_body("m", pad="x" * (6 << 20))).encode()
    go_on = asyncio.Event()

    async def waits(link: Link, asked: Asked) -> None:
        if int(asked.header("content-length") or 0) > 1 << 20:
            await go_on.wait()

    house.engine.on_head = waits
    with house.caller() as slow, house.caller() as other:
        slow.send(house.head(("content-length", str(len(body)))) + body)
        for _ in range(20):
            assert other.ask(house.request()).body == PLAIN
        house.soon(go_on.set)
        assert slow.answer().body == PLAIN
    assert house.engine.asked[-1].body == body


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_answers_of_any_size_arrive_whole(house: House, size: int, chunked: bool) -> None:
    body = bytes(range(256)) * (size // 256 + 1)

    async def says(link: Link, asked: Asked) -> None:
        framing = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % size
        await link.say(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" + framing + b"\r\n\r\n")
        if not chunked:
            await link.say(body[:size])
            return
        for at in range(0, size, 50_000):
            piece = body[at : min(at + 50_000, size)]
            await link.say(b"%x\r\n%b\r\n" % (len(piece), piece))
        await link.say(b"0\r\n\r\n")

    with house.playing(says), house.caller() as caller:
        for _ in range(2):
            answer = caller.ask(house.request(house.fresh()))
            assert answer.status == 200
            assert answer.body == body[:size]
