"""The way in of a connection: bytes into heads and bodies, one request after the other, on time and within bounds."""

from __future__ import annotations

import asyncio
from enum import Enum, auto

from gateway.plane.answering import Answering
from gateway.plane.chunks import BadChunk, Dechunker
from gateway.plane.heads import BadHead, Memory, RequestHead, parse_request

MOST_AHEAD_BYTES = 64 << 10  # of pipelined requests; then the socket waits
NEVER_S = float("inf")
FIRST_BYTES = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_.!#$%&'*+^`|~0123456789")


class State(Enum):
    HEAD = auto()
    BODY = auto()  # the request's rest is on its way
    ANSWER = auto()  # the request is here, its answer is not all out
    LINGER = auto()  # it was refused before its end; what still comes is dropped, so that the caller reads the answer
    CLOSED = auto()


class Intake(Answering):
    """Calls ``_begin_request`` with each head, ``_take`` with pieces of its body, ``_request_is_whole`` at its end.

    ``deadline_s``: when the sweeper is to call ``expire``, of the monotonic clock.
    """

    __slots__ = (
        "_ahead", "_ahead_bytes", "_answered", "_buffer", "_dechunker", "_first_s", "_left", "_memory", "_next_is_due",
        "_state", "_upload", "_write_paused", "deadline_s",
    )  # fmt: skip

    def __init__(self) -> None:
        self.deadline_s = NEVER_S
        self._state = State.HEAD
        self._buffer = b""  # the beginning of a head
        self._first_s = 0.0  # when that began to come; 0 where the head came in one piece
        self._memory: Memory[RequestHead] = Memory()
        self._ahead: list[bytes] = []
        self._ahead_bytes = 0
        self._write_paused = False
        self._next_is_due = False
        self._dechunker: Dechunker | None = None
        self._left = 0
        self._upload = False
        self._answered = False

    # -- what is done with it ------------------------------------------------------------------------------------------

    def _begin_request(self, head: RequestHead, rest: bytes) -> None:
        raise NotImplementedError

    def _bad_head(self, wrong: BadHead) -> None:
        raise NotImplementedError

    def _take(self, payload: bytes) -> None:
        raise NotImplementedError

    def _bad_body(self, wrong: BadChunk) -> None:
        raise NotImplementedError

    def _request_is_whole(self) -> None:
        raise NotImplementedError

    def _reset(self) -> None:
        """For the next request."""
        raise NotImplementedError

    # -- heads ---------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        state = self._state
        if state is State.HEAD:
            if self._ahead:  # comes before it, and is about to be read
                self._keep_ahead(data)
            else:
                self._read_head(self._buffer + data if self._buffer else data)
        elif state is State.BODY:
            self._read_body(data)
        elif state is State.ANSWER:
            self._keep_ahead(data)

    def _read_head(self, data: bytes) -> None:
        limits = self._plane.limits
        if data[:1] in b"\r\n":  # RFC 9112 section 2.2: an empty line before a request is read over
            data = data.lstrip(b"\r\n")
        end = data.find(b"\r\n\r\n") + 4
        if end < 4 or end > limits.head_bytes:
            if data and (data[0] not in FIRST_BYTES or len(data) > limits.head_bytes):
                self._bad_head(self._why_not(data))
                return
            if not self._buffer:
                self._first_s = self._plane.now()
                self.deadline_s = self._first_s + limits.request_timeout_s
            self._buffer = data
            return
        if not self._buffer:
            self._first_s = 0.0
        self._buffer = b""
        raw, rest = data[:end], data[end:]
        length = self._memory.recall(raw)
        if length is not None:
            head = self._memory.value
            assert head is not None
            if length >= 0:
                head.length = length
        else:
            try:
                head = parse_request(raw)
            except BadHead as wrong:
                self._bad_head(wrong)
                return
            self._memory.keep(raw, head)
        self._begin_request(head, rest)

    def _why_not(self, data: bytes) -> BadHead:
        if len(data) > self._plane.limits.head_bytes:
            return BadHead(f"The request's head is larger than {self._plane.limits.head_bytes} bytes.", 431)
        return BadHead("The request is not valid HTTP/1.1: it does not begin with a method.")

    # -- bodies --------------------------------------------------------------------------------------------------------

    def _read_body(self, data: bytes) -> None:
        """``data`` may go on into the next request."""
        if self._dechunker is not None:
            self._read_chunks(self._dechunker, data)
            return
        size = len(data)
        if size < self._left:
            self._left -= size
            if size:
                self._take(data)
            self._expect_more()
            return
        rest = data[self._left :] if size > self._left else b""
        if self._left:
            self._take(data[: self._left] if rest else data)
        self._left = 0
        self._whole_request(rest)

    def _read_chunks(self, dechunker: Dechunker, data: bytes) -> None:
        try:
            rest = dechunker.feed(data)
        except BadChunk as wrong:
            self._bad_body(wrong)
            return
        if payload := dechunker.take():
            self._take(payload)
        if self._state is not State.BODY:
            return
        if dechunker.ended:
            self._whole_request(rest)
        else:
            self._expect_more()

    def _expect_more(self) -> None:
        """The rest of the body has until its deadline; a large upload may take as long as it moves on."""
        if self._answered or self._state is not State.BODY:
            return
        if not self._upload:
            assert self.exchange is not None
            self.deadline_s = (self._first_s or self.exchange.started_s) + self._plane.limits.request_timeout_s

    def _whole_request(self, rest: bytes) -> None:
        if self._state is State.LINGER:
            return
        self._state = State.ANSWER
        self.deadline_s = NEVER_S
        if rest:
            self._keep_ahead(rest)
        if self._answered:
            self._next()
        else:
            self._request_is_whole()

    def _hear_out(self, rest: bytes) -> None:
        """Of a body that will be refused, what is here already."""
        if self._dechunker is None and self._left <= len(rest):
            self._state = State.ANSWER
            if len(rest) > self._left:
                self._keep_ahead(rest[self._left :])
            self._left = 0
        elif self._dechunker is None:
            self._left -= len(rest)
        else:
            try:
                rest = self._dechunker.feed(rest)
            except BadChunk:
                return
            if self._dechunker.ended:
                self._state = State.ANSWER
                if rest:
                    self._keep_ahead(rest)

    # -- from one request to the next ----------------------------------------------------------------------------------

    def _keep_ahead(self, data: bytes) -> None:
        self._ahead.append(data)
        self._ahead_bytes += len(data)
        if self._ahead_bytes > MOST_AHEAD_BYTES:
            assert self.transport is not None
            self.transport.pause_reading()

    def _next(self) -> None:
        if not self._keep:
            self._close()
            return
        if self._write_paused:
            self._next_is_due = True  # a caller that does not read its answers is given no more of them
            return
        self._reset()
        self._state = State.HEAD
        self.deadline_s = self._plane.lately_s + self._plane.limits.idle_timeout_s
        if self._ahead:
            # Not from here: a thousand pipelined requests that are refused at once would be as many calls deep.
            asyncio.get_running_loop().call_soon(self._go_on)
        elif self._plane.leaving.now:
            self._close()

    def _go_on(self) -> None:
        ahead, self._ahead = self._ahead, []
        waited, self._ahead_bytes = self._ahead_bytes > MOST_AHEAD_BYTES, 0
        if waited and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()
        if self._state is State.HEAD:
            self.data_received(b"".join(ahead))

    def _close(self) -> None:
        self._state = State.CLOSED
        self.deadline_s = NEVER_S
        if self.transport is not None:
            self.transport.close()
