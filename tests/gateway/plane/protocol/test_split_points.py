"""However the bytes of a request or of an engine's answer are cut into pieces, the outcome is the same."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateway.plane.protocol.house import House
from tests.gateway.plane.protocol.raw_engine import EVENTS, PLAIN, Asked, Link, in_chunks, streamed, whole
from tests.gateway.plane.protocol.wire import Answer, Caller, chunked, in_pieces

# Its middle reads like the end of a chunked body and the head of a request.
BODY = b'{"model":"m","messages":[{"role":"user","content":"\xc3\xa9"}],"n":[\r\n0\r\n\r\n],"x":"POST / HTTP/1.1"}'
WAVE = 200  # connections at once
FRAMINGS = ["a length", "chunks", "chunks of one byte", "extensions and trailers"]


def framed(house: House, framing: str) -> bytes:
    if framing == "a length":
        return house.head(("content-length", str(len(BODY)))) + BODY
    bodies = {
        "chunks": chunked(BODY, 7, 30),
        "chunks of one byte": chunked(BODY, 1),
        "extensions and trailers": chunked(BODY, 50).replace(b"32\r\n", b'32;name="a; b";c=d\r\n', 1)[:-2]
        + b"x-trailer: 1\r\nvary: *\r\n\r\n",
    }
    return house.head(("transfer-encoding", "chunked")) + bodies[framing]


def in_waves(house: House, requests: Sequence[list[bytes]]) -> list[Answer]:
    """Each request in its pieces, each piece read before the next is sent."""
    answers: list[Answer] = []
    for at in range(0, len(requests), WAVE):
        wave = requests[at : at + WAVE]
        callers = [house.caller() for _ in wave]
        for number in range(max(map(len, wave))):
            for caller, pieces in zip(callers, wave, strict=True):
                if number < len(pieces):
                    caller.send(pieces[number])
            house.settled()
        for caller in callers:
            answers.append(caller.answer())
            caller.close()
    return answers


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_request_cut_in_two_at_every_byte(house: House, framing: str) -> None:
    request = framed(house, framing)
    step = 7 if framing == "chunks of one byte" else 1  # its body is the same six bytes again and again
    answers = in_waves(house, [in_pieces(request, [cut]) for cut in range(1, len(request), step)])
    assert {answer.status for answer in answers} == {200}
    assert {answer.body for answer in answers} == {PLAIN}
    assert {asked.body for asked in house.engine.asked} == {BODY}
    assert len(house.engine.asked) == len(answers)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_request_byte_by_byte(house: House, framing: str) -> None:
    request = framed(house, framing)
    (answer,) = in_waves(house, [in_pieces(request, range(len(request)))])
    assert (answer.status, answer.body) == (200, PLAIN)
    assert [asked.body for asked in house.engine.asked] == [BODY]


def test_two_requests_in_a_row_cut_at_every_byte(house: House) -> None:
    """The cut may lie anywhere: also where the first ends and the next begins."""
    first, second = house.request(n=1), framed(house, "chunks")
    both = first + second
    callers: list[Caller] = []
    for at in range(1, len(both), 3):
        caller = house.caller()
        callers.append(caller)
        caller.send(both[:at])
    house.settled()
    for at, caller in zip(range(1, len(both), 3), callers, strict=True):
        caller.send(both[at:])
    for caller in callers:
        assert [caller.answer().status, caller.answer().status] == [200, 200]
        caller.close()
    assert len(house.engine.asked) == 2 * len(callers)


class Paused:
    """An engine that says its answer in two pieces, and the second when it is told to."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.go_on = asyncio.Event()
        self.saying = 0
        self.all_saying = threading.Semaphore(0)

    async def __call__(self, link: Link, asked: Asked) -> None:
        cut = asked.how["cut"]
        await link.say(self.answer[:cut])
        self.all_saying.release()
        await self.go_on.wait()
        await link.say(self.answer[cut:])


@pytest.mark.parametrize(
    "answer",
    [whole(), streamed(), in_chunks(PLAIN, 11, 90)],
    ids=["a length", "a stream", "chunks"],
)
def test_an_answer_cut_in_two_at_every_byte(house: House, answer: bytes) -> None:
    stream = answer == streamed()
    cuts = list(range(1, len(answer)))
    for at in range(0, len(cuts), WAVE):
        wave = cuts[at : at + WAVE]
        play = Paused(answer)
        with house.playing(play):
            callers = [house.caller().send(house.request(stream=stream, how={"cut": cut})) for cut in wave]
            for _ in wave:
                assert play.all_saying.acquire(timeout=15)
            house.settled()
            house.soon(play.go_on.set)
            for cut, caller in zip(wave, callers, strict=True):
                got = caller.answer()
                assert (got.status, got.body) == (200, b"".join(EVENTS) if stream else PLAIN), cut
                caller.close()


async def byte_by_byte(link: Link, asked: Asked) -> None:
    for byte in streamed() if asked.json.get("stream") else whole():
        await link.say(bytes((byte,)))
        await asyncio.sleep(0)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_byte_by_byte(house: House, stream: bool) -> None:
    with house.playing(byte_by_byte), house.caller() as caller:
        got = caller.ask(house.request(stream=stream))
    assert (got.status, got.body) == (200, b"".join(EVENTS) if stream else PLAIN)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_pieces_of_any_chunks(house: House, data: st.DataObject) -> None:
    house.engine.anew()
    sizes = data.draw(st.lists(st.integers(1, 80), min_size=1, max_size=8))
    request = house.head(("transfer-encoding", "chunked")) + chunked(BODY, *sizes)
    cuts = data.draw(st.lists(st.integers(1, len(request)), max_size=12))
    with house.caller() as caller:
        for piece in in_pieces(request, cuts):
            caller.send(piece)
            house.settled()
        assert caller.answer().body == PLAIN
    assert [asked.body for asked in house.engine.asked] == [BODY]
