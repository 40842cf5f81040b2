"""One call as its caller sees it: answered, refused in order, or failed; and on which side of the first byte."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from loadtests.chat import CHAT_PATH, ChatRequest, Progress, StreamBroken
from loadtests.sse import SseError, SseParser
from loadtests.target import Target
from loadtests.wire import PIECE_BYTES, connection, headers, refusal, shorten

Clock = Callable[[], float]


class How(StrEnum):
    """How a call ended."""

    OK = "ok"
    REFUSED = "refused"  # 429 or 503 with Retry-After
    WRONG_STATUS = "wrong status"  # any other status of 400 and above
    UNCONNECTED = "unconnected"  # nobody took the connection
    BROKEN = "broken"  # connected, and cut off before the first byte
    SILENT = "silent"  # no first byte in time
    ERROR_EVENT = "error event"  # a stream that began, and said at its end what went wrong
    CUT = "cut"  # began, and ended without a word, or said nonsense


BEFORE_FIRST_BYTE = frozenset({How.WRONG_STATUS, How.UNCONNECTED, How.BROKEN, How.SILENT})
AFTER_FIRST_BYTE = frozenset({How.ERROR_EVENT, How.CUT})


@dataclass(slots=True)
class Call:
    """Times in seconds of the caller's clock. ``text``: what was said, or what became of the connection."""

    model: str
    streamed: bool
    began_s: float
    how: How = How.SILENT
    text: str = ""
    status: int | None = None
    first_byte_s: float | None = None
    ended_s: float = field(default=0.0)

    @property
    def over(self) -> bool:
        return self.ended_s > 0

    @property
    def took_s(self) -> float:
        return self.ended_s - self.began_s

    @property
    def failed(self) -> bool:
        return self.how in BEFORE_FIRST_BYTE or self.how in AFTER_FIRST_BYTE


def place(target: Target, request: ChatRequest, call: Call, clock: Clock, timeout_s: float) -> None:
    """Make ``call`` on a connection of its own and write into it what happens; raises nothing.

    ``timeout_s`` bounds the wait for the first byte, and for each further piece.
    """
    link = connection(target, timeout_s)
    try:
        _talk(link, target, request, call, clock)
    except TimeoutError:
        call.how = How.SILENT if call.first_byte_s is None else How.CUT
        call.text = f"nothing for {timeout_s:g} s"
    except (OSError, http.client.HTTPException) as problem:
        call.how = How.BROKEN if call.first_byte_s is None else How.CUT
        call.text = f"{type(problem).__name__}: {problem}"
    finally:
        call.ended_s = clock()
        link.close()


def _talk(link: http.client.HTTPConnection, target: Target, request: ChatRequest, call: Call, clock: Clock) -> None:
    try:
        link.connect()
    except OSError as problem:
        call.how, call.text = How.UNCONNECTED, f"{type(problem).__name__}: {problem}"
        return
    body = json.dumps(request.body(stream=call.streamed)).encode()
    link.request("POST", CHAT_PATH, body, headers(target, admin=False))
    answer = link.getresponse()
    call.first_byte_s, call.status = clock(), answer.status
    if answer.status >= 400:
        _refused(answer, call)
    elif call.streamed:
        _stream(answer, call, clock)
    else:
        _whole(answer.read(), call)


def _refused(answer: http.client.HTTPResponse, call: Call) -> None:
    in_order = answer.status in (429, 503) and answer.getheader("retry-after")
    call.how = How.REFUSED if in_order else How.WRONG_STATUS
    call.text = str(refusal(answer.status, answer.read(PIECE_BYTES)))


def _stream(answer: http.client.HTTPResponse, call: Call, clock: Clock) -> None:
    progress, parser = Progress(started_s=call.began_s), SseParser()
    try:
        while piece := answer.read1(PIECE_BYTES):
            for event in parser.feed(piece):
                if event.name == "error":
                    call.how, call.text = How.ERROR_EVENT, shorten(event.data)
                    return
                progress.take(event, clock())
        progress.end(clock())
    except (StreamBroken, SseError) as problem:
        call.how, call.text = How.CUT, str(problem)
    else:
        call.how = How.OK


def _whole(body: bytes, call: Call) -> None:
    call.how, call.text = How.CUT, shorten(body[:200].decode(errors="replace"))
    with contextlib.suppress(ValueError, LookupError, TypeError):
        if json.loads(body)["choices"][0]["finish_reason"]:
            call.how, call.text = How.OK, ""
