"""A request for the control application (FastAPI): what is no inference, on the same connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from starlette.types import ASGIApp, Message, Scope

from gateway.dialects import dialect_of, error_body
from gateway.errors import GatewayError, Unexpected
from gateway.exchange import Exchange
from gateway.plane.heads import RequestHead
from gateway.plane.statuses import error_lines

if TYPE_CHECKING:
    from gateway.plane.connection import Connection

MOST_UNREAD_BYTES = 256 << 10  # of a body that the application has not asked for yet; then the socket waits

log = structlog.get_logger(__name__)


class AsgiCall:
    """One call of the application, in a task of its own. ``started``: the head of its answer is out."""

    def __init__(self, app: ASGIApp, connection: Connection, head: RequestHead, exchange: Exchange) -> None:
        self.head = head
        self.started = False
        self._app = app
        self._connection = connection
        self._exchange = exchange
        self._body: list[bytes] = []
        self._unread_bytes = 0
        self._eof = False
        self._said_eof = False
        self._gone = False
        self._reading_paused = False
        self._news = asyncio.Event()
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._task: asyncio.Task[None] | None = None
        self._start: Message | None = None  # its head, while it is not known whether the body comes in one piece
        self._ended = False

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    # -- from the connection -----------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        self._body.append(data)
        self._unread_bytes += len(data)
        if self._unread_bytes > MOST_UNREAD_BYTES and not self._reading_paused:
            self._reading_paused = True
            assert self._connection.transport is not None
            self._connection.transport.pause_reading()
        self._news.set()

    def feed_eof(self) -> None:
        self._eof = True
        self._news.set()

    def pause(self) -> None:
        self._can_write.clear()

    def resume(self) -> None:
        self._can_write.set()

    def cancel(self) -> None:
        """The caller left: ``receive`` says so; the application may finish what it is doing."""
        self._gone = True
        self._news.set()
        self._can_write.set()

    # -- the application ---------------------------------------------------------------------------------------------

    def _scope(self) -> Scope:
        head = self.head
        sockname = peer = None
        if (transport := self._connection.transport) is not None:
            sockname, peer = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        secure = transport is not None and transport.get_extra_info("ssl_object") is not None
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.0" if head.http_1_0 else "1.1",
            "server": sockname[:2] if isinstance(sockname, tuple) else None,
            "client": (head.address or peer[0], peer[1]) if isinstance(peer, tuple) else None,
            "scheme": "https" if secure else "http",
            "method": "GET" if head.method == "HEAD" else head.method,  # its body is left out on the way
            "root_path": "",
            "path": head.path,
            "raw_path": head.target.partition(b"?")[0],
            "query_string": head.query,
            "headers": head.headers,
            "state": {"exchange": self._exchange},
        }

    async def _run(self) -> None:
        exchange = self._exchange
        try:
            await self._app(self._scope(), self._receive, self._send)
            if not self._over:
                raise RuntimeError("the application ended without an answer")
        except GatewayError as error:
            self._answer(error)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("unexpected error", request_id=exchange.request_id)
            self._answer(Unexpected(exchange.request_id))

    def _answer(self, error: GatewayError) -> None:
        """In place of what the application did not say. An answer that had begun stays unfinished."""
        if self._over:
            return
        self._ended = True
        if self.started:
            self._connection.abort()
            return
        self._exchange.code = error.code
        body = error_body(error, dialect_of(self._exchange.path), self._exchange.request_id)
        self._connection.whole(error.status, error_lines(error), body)

    async def _receive(self) -> Message:
        # When all of the body was handed over, the next news is that the caller leaves.
        while not (self._over or self._body or (self._eof and not self._said_eof)):
            self._news.clear()
            await self._news.wait()
        if self._over:
            return {"type": "http.disconnect"}
        body, self._body, self._unread_bytes = b"".join(self._body), [], 0
        if self._reading_paused:
            self._reading_paused = False
            assert self._connection.transport is not None
            self._connection.transport.resume_reading()
        self._said_eof = self._eof
        return {"type": "http.request", "body": body, "more_body": not self._eof}

    @property
    def _over(self) -> bool:
        return self._gone or self._ended

    async def _send(self, message: Message) -> None:
        if self._over:
            return
        if message["type"] == "http.response.start":
            self._start = message
            return
        if message["type"] != "http.response.body":
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._start is not None and not more:
            head, self._start = self._start, None
            self._ended = True
            self._connection.whole(head["status"], _lines(head), body)
            return
        if self._start is not None:
            head, self._start = self._start, None
            self.started = True
            self._connection.begin(head["status"], _lines(head), _length(head))
        if body:
            if self._exchange.first_byte_s is None:
                self._exchange.first_byte_s = self._connection.now() - self._exchange.started_s
            self._connection.write(body)
        if not more:
            self._ended = True
            self._connection.end()
        elif not self._can_write.is_set():
            await self._can_write.wait()


def _lines(head: Message) -> bytes:
    left_out = (b"content-length", b"transfer-encoding", b"connection", b"date", b"server")
    kept = [(name.lower(), value) for name, value in head.get("headers", []) if name.lower() not in left_out]
    return b"".join(b"%b: %b\r\n" % header for header in kept)


def _length(head: Message) -> int | None:
    for name, value in head.get("headers", []):
        if name.lower() == b"content-length":
            return int(value)
    return None
