"""One caller's connection: its requests one after the other, each with one answer, on time and within bounds.

What comes in is a head, then a body (length-framed, chunked or none), while the answer is under way perhaps the next
requests (pipelining), which wait. Inference goes to a ``Flight``, a WebSocket to a ``Tunnel``, all else to the control
application (``AsgiCall``).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import structlog

from gateway.errors import BodyTooLarge, GatewayError, MethodNotAllowed, RequestTimeout, Unexpected
from gateway.exchange import Exchange
from gateway.plane.asgi import AsgiCall
from gateway.plane.chunks import Dechunker
from gateway.plane.flight import Flight
from gateway.plane.heads import RequestHead
from gateway.plane.intake import NEVER_S, State
from gateway.plane.recognising import CONTINUE, Recognising
from gateway.plane.upstream import no_delay

if TYPE_CHECKING:
    from gateway.plane.plane import Plane

MOVES_ON_BYTES = 64 << 10  # of an upload, within the time that a request has
SMALL_CHUNK_BYTES = 64  # in the mean, of a body with thousands of chunks: more would cost time for nothing

log = structlog.get_logger(__name__)


class Connection(Recognising, asyncio.Protocol):
    __slots__ = ("_body",)

    def __init__(self, plane: Plane) -> None:
        super().__init__()
        self._plane = plane
        self.transport: asyncio.Transport | None = None
        self.exchange: Exchange | None = None
        self._peer = None
        self._cleared = -1
        self._reset()

    def _reset(self) -> None:
        """For the next request."""
        self._head: RequestHead | None = None
        self._flight: Flight | None = None
        self._call = None
        self._task = None
        self._account = None
        self._dechunker: Dechunker | None = None
        self._body: bytes | bytearray = b""
        self._size = 0
        self._left = 0
        self._most_bytes = 0
        self._upload = False
        self._answered = False
        self._keep = True
        self._chunked_out = False
        self._no_body_out = False

    # -- the connection ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's do not inherit from it
        no_delay(transport)
        self._plane.connections.add(self)
        self.deadline_s = self._plane.now() + self._plane.limits.idle_timeout_s
        if self._plane.is_full:
            self.exchange = self._new_exchange("", "")
            self._refuse_connection(self._plane.full())

    def connection_lost(self, exc: Exception | None) -> None:
        self._plane.connections.discard(self)
        state, self._state = self._state, State.CLOSED
        self.deadline_s = NEVER_S
        if state in (State.BODY, State.ANSWER):
            self._leave()

    def eof_received(self) -> None:
        """Who stops sending while an answer is due has left, as nginx sees it; else the transport closes by itself."""
        if self._state in (State.BODY, State.ANSWER):
            self._state = State.CLOSED
            self.deadline_s = NEVER_S
            self._leave()
            self.kill()  # what is written need not get there; one that does not read would hold its engine up

    def pause_writing(self) -> None:
        self._write_paused = True
        self.deadline_s = self._plane.now() + self._plane.limits.idle_timeout_s
        if self._flight is not None:
            self._flight.pause()
        elif self._call is not None:
            self._call.pause()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._state is State.ANSWER:
            self.deadline_s = NEVER_S
        if self._next_is_due:
            self._next_is_due = False
            self._next()
        elif self._flight is not None:
            self._flight.resume()
        elif self._call is not None:
            self._call.resume()

    def expire(self, now_s: float) -> None:
        """The deadline has passed: an idle connection ends, a request that does not arrive is refused."""
        self.deadline_s = NEVER_S
        if self._state is State.LINGER or (self._state is State.HEAD and not self._buffer):
            self._close()
        elif self._state is State.HEAD:
            self.exchange = self._new_exchange("", "")
            self._refuse_connection(RequestTimeout(self._plane.limits.request_timeout_s))
        elif self._state is State.BODY:
            if self._answered:
                self._close()
            self._refuse(RequestTimeout(self._plane.limits.request_timeout_s))
        elif self._state is State.ANSWER and self._write_paused:
            self.kill()  # it reads nothing, and an engine waits for it

    def drain(self) -> None:
        """The worker ends: nothing new is taken; what is under way finishes."""
        self._keep = False
        if self._state is State.HEAD and not self._buffer:
            self._close()

    def now(self) -> float:
        return self._plane.now()

    def kill(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    # -- a request -------------------------------------------------------------------------------------------------

    def _begin_request(self, head: RequestHead, rest: bytes) -> None:
        plane = self._plane
        self._head = head
        self._keep = head.keep_alive and not plane.leaving.now
        self.exchange = exchange = self._new_exchange(head.method, head.path, head.request_id)
        self._no_body_out = head.method == "HEAD"
        self._state = State.BODY
        if not head.looked_up:
            head.looked_up = True
            head.endpoint, head.path_model = plane.paths.find(head.path) or (None, None)
        self._left = head.length or 0
        if head.chunked:
            self._dechunker = Dechunker(smallest_bytes=SMALL_CHUNK_BYTES)
        try:
            if head.cleared != plane.guard.generation:
                self._clear(head)
            exchange.address = head.address
            if head.endpoint is not None:
                self._begin_inference(head, exchange)
            else:
                plane.check_control(head)
                self._upload = plane.takes_uploads(head)
                self._most_bytes = plane.limits.upload_bytes if self._upload else plane.limits.max_body_bytes
                self._check_length(head)
                self._call = AsgiCall(plane.control, self, head, exchange)
                self._call.start()
        except GatewayError as error:
            self._hear_out(rest)
            self._refuse(error)
            return
        if self._state is not State.BODY:
            return
        if self._account is not None and self._left == len(rest) and self._dechunker is None:
            # The usual request: here in one piece, from a caller who is known.
            self._body, self._left, self._state, self.deadline_s = rest, 0, State.ANSWER, NEVER_S
            self._complete()
            return
        if head.expects_continue and not rest and self._task is None and (self._left or head.chunked):
            self._write(CONTINUE)
        self._read_body(rest)

    def _begin_inference(self, head: RequestHead, exchange: Exchange) -> None:
        """Raises GatewayError. All that can be refused before the body is there is refused now."""
        plane, endpoint = self._plane, head.endpoint
        exchange.endpoint = endpoint.name
        if endpoint.upgrades and head.method != "OPTIONS":
            plane.open_tunnel(self, head, exchange)
            return
        if head.method != endpoint.method:
            if head.method == "OPTIONS":
                return
            raise MethodNotAllowed(head.method, head.path, (endpoint.method, "OPTIONS"))
        self._recognise(head, endpoint, exchange)
        if not head.checked:
            plane.check_head(head, endpoint)
            head.checked = True
        if self._left > self._most_bytes:
            raise BodyTooLarge(self._most_bytes)

    def _take(self, payload: bytes) -> None:
        before, self._size = self._size, self._size + len(payload)
        if self._answered:
            return
        if self._size > self._most_bytes:
            self._refuse(BodyTooLarge(self._most_bytes))
            return
        if self._upload and (before == 0 or before // MOVES_ON_BYTES != self._size // MOVES_ON_BYTES):
            self.deadline_s = self._plane.now() + self._plane.limits.request_timeout_s
        if self._call is not None:
            self._call.feed(payload)
        elif not self._body:
            self._body = payload
        else:
            if isinstance(self._body, bytes):
                # Not a list: a million pieces of a byte would be fifty times as large.
                self._body = bytearray(self._body)
            self._body += payload

    def _request_is_whole(self) -> None:
        if self._call is not None:
            self._call.feed_eof()
        elif self._task is None:
            self._complete()

    def _complete(self) -> None:
        """The request is here and its caller known."""
        head, exchange = self._head, self.exchange
        assert head is not None
        assert exchange is not None
        if head.method == "OPTIONS":
            self.whole(204, b"allow: OPTIONS, %b\r\n" % head.endpoint.method.encode(), b"")
            return
        assert self._account is not None
        body, self._body = bytes(self._body), b""
        exchange.request_bytes = len(body)
        flight = Flight(self._plane, self, exchange, head)
        self._flight = flight
        try:
            inquiry = self._plane.inquiry(head, self._account, body, exchange)
        except GatewayError as error:
            flight.fail(error)
            return
        except Exception:
            log.exception("unexpected error", request_id=exchange.request_id)
            flight.fail(Unexpected(exchange.request_id))
            return
        flight.start(inquiry)

    # -- between requests ----------------------------------------------------------------------------------------------

    def _answer_is_out(self) -> None:
        exchange = self.exchange
        if exchange is not None:
            self._plane.observe(exchange)
            self.exchange = None
        self._answered = True
        self._flight = None
        self._call = None
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._state is State.ANSWER:
            self._next()
        elif self._state is State.BODY:
            if self._keep:
                # ``_whole_request`` goes on when the rest has come.
                self.deadline_s = self._plane.now() + self._plane.limits.linger_s
            else:
                self._state = State.LINGER
                self._body = b""
                self.deadline_s = self._plane.now() + self._plane.limits.linger_s
                if self.transport is not None and self.transport.can_write_eof():
                    self.transport.write_eof()  # the caller sees the end at once, however long it goes on sending

    def _answer_is_cut(self) -> None:
        assert self.exchange is not None
        self._answered = True
        self._plane.observe(self.exchange)
        self.exchange = None
        self._state = State.CLOSED

    def _leave(self) -> None:
        """The caller is gone before its answer was."""
        exchange = self.exchange
        if self._flight is not None:
            self._flight.cancel()
        elif self._call is not None:
            self._call.cancel()
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if exchange is not None:
            exchange.client_gone = True
            if not exchange.status:
                exchange.status, exchange.code = 499, "client_gone"
            if self._plane.recorder is not None and self._call is None:
                self._plane.recorder.refused(exchange, exchange.status)
            self._plane.observe(exchange)
            self.exchange = None
