"""The way out of a connection: an answer's head and body in the framing that its caller understands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.plane.chunks import LAST, Dechunker, framed
from gateway.plane.statuses import status_line
from gateway.timing import server_timing

if TYPE_CHECKING:
    import asyncio

    from gateway.exchange import Exchange
    from gateway.plane.flight import Flight
    from gateway.plane.heads import RequestHead
    from gateway.plane.plane import Plane

ANTHROPIC = "/v1/messages"
WITHOUT_BODY = (204, 304)


class Answering:
    """An ``Outlet``. ``_answer_is_out`` is called when it is, ``_answer_is_cut`` when it never will be."""

    __slots__ = ("_chunked_out", "_flight", "_head", "_keep", "_no_body_out", "_plane", "exchange", "transport")

    _plane: Plane
    _head: RequestHead | None
    _flight: Flight | None
    _keep: bool  # the connection goes on after this answer
    _chunked_out: bool
    _no_body_out: bool
    exchange: Exchange | None
    transport: asyncio.Transport | None

    def _head_out(self, status: int, head: bytes, framing: bytes) -> bytes:
        exchange = self.exchange
        assert exchange is not None
        exchange.status = status
        request_id = exchange.request_id.encode()
        flight = self._flight
        timing = b"" if flight is None else server_timing(exchange) + flight.limit_lines
        also = b"request-id: %b\r\n" % request_id if exchange.path.startswith(ANTHROPIC) else b""
        if not self._keep:
            ending = b"connection: close\r\n\r\n"
        elif self._head is not None and self._head.http_1_0:
            ending = b"connection: keep-alive\r\n\r\n"
        else:
            ending = b"\r\n"
        date = self._plane.date_line
        named = b"x-request-id: %b\r\n" % request_id
        return b"".join((status_line(status), date, head, framing, named, also, timing, ending))

    def whole(self, status: int, head: bytes, body: bytes) -> None:
        framing = b"" if status == 204 else b"content-length: %d\r\n" % len(body)
        out = self._head_out(status, head, framing)
        self._write(out if self._no_body_out or status in WITHOUT_BODY else out + body)
        self._answer_is_out()

    def begin(self, status: int, head: bytes, length: int | None) -> None:
        framing = b""
        if length is not None:
            framing = b"content-length: %d\r\n" % length
        elif status not in WITHOUT_BODY:
            if self._head is not None and self._head.http_1_0:
                self._keep = False  # its end is the connection's end
            else:
                self._chunked_out = True
                framing = b"transfer-encoding: chunked\r\n"
        if status in WITHOUT_BODY:
            self._no_body_out = True
        self._write(self._head_out(status, head, framing))
        if self._flight is not None:
            self._flight.takes_chunks = False

    def write(self, data: bytes) -> None:
        if not self._no_body_out:
            self._write(framed(data) if self._chunked_out else data)

    def write_chunks(self, data: bytes, payload_bytes: int) -> None:
        if self._chunked_out and not self._no_body_out:
            self._write(data)
        else:
            dechunker = Dechunker()
            dechunker.feed(data)
            self.write(dechunker.take())

    def end(self) -> None:
        if self._chunked_out and not self._no_body_out:
            self._write(LAST)
        self._answer_is_out()

    def abort(self) -> None:
        """What was written still goes out where its framing shows that something is missing."""
        self._keep = False
        self._answer_is_cut()
        if self.transport is None:
            return
        if self._head is not None and self._head.http_1_0:
            self.transport.abort()
        else:
            self.transport.close()

    def _answer_is_out(self) -> None:
        raise NotImplementedError

    def _answer_is_cut(self) -> None:
        raise NotImplementedError

    def _write(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)
