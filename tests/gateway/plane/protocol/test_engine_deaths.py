"""An engine that dies at any byte of its answer: retried before the first byte, told after it, never hidden."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest

from tests.gateway.plane.protocol.house import House, wait_until
from tests.gateway.plane.protocol.raw_engine import (
    EVENTS,
    PLAIN,
    STREAM_HEAD,
    TOLD,
    Asked,
    Link,
    answers,
    in_chunks,
    streamed,
    whole,
)
from tests.gateway.plane.protocol.wire import Answer, Broken, Caller

WAVE = 100


class DiesAt:
    """Says ``answer`` up to the byte that the request names, and dies; the next time it answers as it should."""

    def __init__(self, answer: bytes, *, softly: bool = False) -> None:
        self.answer = answer
        self.softly = softly
        self.tries: Counter[str] = Counter()

    async def __call__(self, link: Link, asked: Asked) -> None:
        model = asked.json["model"]
        self.tries[model] += 1
        if self.tries[model] > 1:
            await answers(link, asked)
            return
        await link.say(self.answer[: asked.how["at"]])
        if self.softly:
            await link.end()
        else:
            await asyncio.sleep(0)
            link.die()


def one_by_one(house: House, play: DiesAt, positions: range, *, stream: bool) -> dict[int, Answer]:
    """Position of death -> the answer that the caller had. Each on a model of its own, which has a second replica."""
    got: dict[int, Answer] = {}
    with house.playing(play):
        for start in range(0, len(positions), WAVE):
            callers: dict[int, Caller] = {}
            for at in positions[start : start + WAVE]:
                model = house.fresh("-pair")
                callers[at] = house.caller().send(house.request(model, stream=stream, how={"at": at}))
            for at, caller in callers.items():
                got[at] = caller.answer()
                assert not caller.reader.rest
                caller.close()
    return got


@pytest.mark.parametrize("softly", [False, True], ids=["killed", "ended"])
def test_a_short_answer_is_had_whole_whenever_its_engine_dies(house: House, softly: bool) -> None:
    play = DiesAt(whole(), softly=softly)
    got = one_by_one(house, play, range(0, len(play.answer), 1 if softly else 3), stream=False)
    assert {(answer.status, answer.body) for answer in got.values()} == {(200, PLAIN)}
    assert set(play.tries.values()) == {2}


def test_a_short_answer_in_chunks_too(house: House) -> None:
    play = DiesAt(in_chunks(PLAIN, 30, 7), softly=True)
    got = one_by_one(house, play, range(0, len(play.answer), 2), stream=False)
    assert {(answer.status, answer.body) for answer in got.values()} == {(200, PLAIN)}
    assert set(play.tries.values()) == {2}


def test_a_stream_is_retried_before_its_first_event_and_ends_with_an_error_after_it(house: House) -> None:
    play = DiesAt(streamed(), softly=True)
    got = one_by_one(house, play, range(len(play.answer)), stream=True)
    first_event_ends = len(STREAM_HEAD) + len(b"%x\r\n" % len(TOLD[0])) + len(TOLD[0])
    everything = b"".join(EVENTS)
    for at, answer in got.items():
        assert answer.status == 200
        events = answer.events
        assert all(one.startswith((b"data: ", b"event: error\ndata: ")) for one in events), (at, events)
        if at < first_event_ends:
            # A part of the first event may have been said: the caller has nothing of it yet.
            assert answer.body == everything, at
        elif answer.body == everything:
            # All was there but the end of the framing.
            assert at >= first_event_ends + len(b"".join(TOLD[1:])), at
        else:
            *whole_ones, last = events
            assert answer.body.startswith(b"".join(EVENTS[: len(whole_ones)])), at
            assert last.startswith(b"event: error\n"), (at, last)
            error = json.loads(last.partition(b"data: ")[2])["error"]
            assert error["code"] == "engine_unavailable"
    tries = [play.tries[f"{model}"] for model in play.tries]
    assert set(tries) == {1, 2}, "never again after the first event"


def test_a_stream_that_ends_without_its_last_event_is_no_whole_one(house: House) -> None:
    """The framing is whole, the stream is not: it is passed on as it is, not mended."""

    async def short(link: Link, asked: Asked) -> None:
        await link.say(streamed(*EVENTS[:2]))

    with house.playing(short), house.caller() as caller:
        answer = caller.ask(house.request(house.fresh(), stream=True))
    assert b"[DONE]" not in answer.body


@pytest.mark.parametrize("framing", ["a length", "chunks"])
def test_a_long_answer_that_breaks_off_stays_broken(house: House, framing: str) -> None:
    head = whole() if framing == "a length" else in_chunks()
    head = head[: head.index(b"\r\n\r\n") + 4].replace(b"content-length: %d" % len(PLAIN), b"content-length: 5000000")
    pad = b" " * 3_000_000

    async def breaks(link: Link, asked: Asked) -> None:
        await link.say(head + (pad if framing == "a length" else b"%x\r\n%b\r\n" % (len(pad), pad)))
        await link.end()

    with house.playing(breaks), house.caller() as caller:
        caller.send(house.request(house.fresh()))
        with pytest.raises((Broken, ConnectionResetError)):
            caller.answer()
        assert len(house.engine.asked) == 1


def test_a_long_answer_that_says_no_length_ends_broken_too(house: House) -> None:
    async def breaks(link: Link, asked: Asked) -> None:
        await link.say(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        await link.say(b"200000\r\n" + b" " * 0x200000 + b"\r\n5\r\nhe")
        await link.end()

    with house.playing(breaks), house.caller() as caller:
        caller.send(house.request(house.fresh()))
        with pytest.raises((Broken, ConnectionResetError)):
            caller.answer()


def test_an_answer_until_the_end_of_the_connection_is_whole(house: House) -> None:
    """RFC 9112 section 6.3: with neither a length nor chunks the connection's end is the body's."""

    async def old(link: Link, asked: Asked) -> None:
        await link.say(b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n" + PLAIN)
        await link.end()

    with house.playing(old), house.caller() as caller:
        for _ in range(2):
            assert caller.ask(house.request()).body == PLAIN


def test_at_most_two_retries_and_then_an_answer(house: House) -> None:
    async def dies(link: Link, asked: Asked) -> None:
        link.die()

    house.route(five=5)
    house.soon(house.engine.end_idle_links)  # one that was idle is tried again on a new connection besides
    wait_until(lambda: house.engine.open == 0)
    house.settled()
    with house.playing(dies), house.caller() as caller:
        answer = caller.ask(house.request("five", ("x-request-timeout", "5")))
        assert answer.status == 503
        assert answer.header("retry-after")
        answer.error()
        assert 2 <= len(house.engine.asked) <= 3


@pytest.mark.parametrize("status", [503, 429])
def test_a_busy_engine_is_left_alone_for_another(house: House, status: int) -> None:
    model = house.fresh("-pair")
    first = True

    async def busy_once(link: Link, asked: Asked) -> None:
        nonlocal first
        await link.say(whole(b'{"error":{"message":"busy"}}', status=f"{status} X") if first else whole())
        first = False

    with house.playing(busy_once), house.caller() as caller:
        answer = caller.ask(house.request(model))
    assert answer.status in ((200,) if status == 503 else (200, 429))


def test_error_answers_are_told_in_our_words_however_they_are_framed(house: House) -> None:
    secret = b'{"error":{"message":"File \\"/srv/engine.py\\", line 3","type":"x"}}'
    frames = [
        whole(secret, status="500 Oops"),
        in_chunks(secret, 7).replace(b"200 OK", b"500 Oops"),
        whole(b"<html>/srv/engine.py</html>", status="500 Oops", kind="text/html"),
        whole(b"\xff\xfe", status="418 Teapot"),
        whole(b"", status="500 Oops"),
        whole(b"x" * (2 << 20), status="500 Oops"),
    ]
    for frame in frames:

        async def fails(link: Link, asked: Asked, frame: bytes = frame) -> None:
            await link.say(frame)

        with house.playing(fails), house.caller() as caller:
            for stream in (False, True):
                answer = caller.ask(house.request(stream=stream))
                assert answer.status in (400, 418, 500, 502, 503), frame[:60]
                assert "srv" not in answer.error()["message"]
            house.engine.anew()
            assert caller.ask(house.request()).body == PLAIN
