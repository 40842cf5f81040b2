"""The engine's end of a tunnel: first an answer with a head, then bytes for as long as it lasts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from gateway.engine_errors import LARGEST_BODY_BYTES
from gateway.plane.handshake import SWITCHING, parse_opening
from gateway.plane.heads import AnswerHead, BadHead
from gateway.plane.upstream import LONGEST_HEAD_BYTES, no_delay

if TYPE_CHECKING:
    from gateway.plane.tunnel import Tunnel

LAST_BYTES_S = 0.5  # that an engine has to take what it was sent last; its caller is gone, and its slot is to be free


class EngineEnd(asyncio.Protocol):
    """Tells its tunnel: ``answered`` with the head, then ``sent``, or ``complained`` where it does not switch; ``lost``
    when it goes away before it was told to (``end``)."""

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel: Tunnel | None = tunnel
        self._transport: asyncio.Transport | None = None
        self._head: AnswerHead | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's do not inherit from it
        no_delay(transport)
        if self._tunnel is None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        tunnel = self._tunnel
        if tunnel is None:
            return
        if self._head is not None and self._head.status == SWITCHING:
            tunnel.sent(data)
            return
        self._buffer += data
        if self._head is None:
            self._read_head(tunnel)
        elif len(self._buffer) >= self._expected():
            tunnel.complained(self._head.status, self._buffer)

    def _read_head(self, tunnel: Tunnel) -> None:
        end = self._buffer.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(self._buffer) > LONGEST_HEAD_BYTES:
                tunnel.lost("the head of its answer is too long")
            return
        raw, self._buffer = self._buffer[:end], self._buffer[end:]
        try:
            head = parse_opening(raw)
        except BadHead as wrong:
            tunnel.lost(wrong.message)
            return
        self._head = head
        rest = self._buffer
        tunnel.answered(head, rest if head.status == SWITCHING else b"")
        if head.status != SWITCHING and len(rest) >= self._expected():
            tunnel.complained(head.status, rest)

    def _expected(self) -> int:
        """How much of a refusal is read: as long as it says to be; else until it ends."""
        assert self._head is not None
        for name, value in self._head.headers:
            if name == b"content-length" and value.isdigit() and len(value) < 10:
                return min(int(value), LARGEST_BODY_BYTES)
        return LARGEST_BODY_BYTES

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def pause_writing(self) -> None:
        if self._tunnel is not None:
            self._tunnel.pause_reading()

    def resume_writing(self) -> None:
        if self._tunnel is not None:
            self._tunnel.resume_reading()

    def pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is None:
            return
        if self._head is not None and self._head.status != SWITCHING:
            tunnel.complained(self._head.status, self._buffer)
        else:
            tunnel.lost("the connection broke")

    def end(self) -> None:
        """The caller is gone, or this engine is not wanted any more. What was written goes out before it closes."""
        self._tunnel = None
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()
            asyncio.get_running_loop().call_later(LAST_BYTES_S, self._transport.abort)
