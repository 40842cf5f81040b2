"""Sending an answer over ASGI, and noting its facts on the way."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import Message, Send

from gateway.clock import Clock
from gateway.dialects import Dialect, dialect_of, error_body
from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.headers import Headers


class Reply:
    """Every answer carries the request id. ``started``: the head is out, so it can no longer become another answer."""

    def __init__(self, send: Send, exchange: Exchange, clock: Clock) -> None:
        self._send = send
        self._clock = clock
        self.exchange = exchange
        self.started = False

    async def send(self, message: Message) -> None:
        exchange = self.exchange
        if message["type"] == "http.response.start":
            self.started = True
            exchange.status = message["status"]
            message = {**message, "headers": self._with_id(message.get("headers", []))}
        elif exchange.first_byte_s is None and message.get("body"):
            exchange.first_byte_s = self._clock.monotonic() - exchange.started_s
        await self._send(message)

    async def start(self, status: int, headers: Headers) -> None:
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes) -> None:
        await self.send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self) -> None:
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        length = [] if status == 204 else [(b"content-length", str(len(body)).encode())]
        await self.start(status, [*headers, *length])
        await self.send({"type": "http.response.body", "body": body, "more_body": False})

    async def error(self, error: GatewayError, dialect: Dialect) -> None:
        self.exchange.code = error.code
        await self.whole(error.status, error_headers(error), error_body(error, dialect, self.exchange.request_id))

    def _with_id(self, headers: Iterable[tuple[bytes, bytes]]) -> Headers:
        request_id = self.exchange.request_id.encode()
        added = [(b"x-request-id", request_id)]
        if dialect_of(self.exchange.path) is Dialect.ANTHROPIC:
            added.append((b"request-id", request_id))  # the name under which Anthropic's SDK looks for it
        return [*headers, *added]


def error_headers(error: GatewayError) -> Headers:
    given = [(name.encode(), value.encode()) for name, value in error.headers()]
    return [(b"content-type", b"application/json"), *given]
