"""Requests made by this process itself, over the way of all others but for the socket (batches)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, replace

from gateway import request_ids
from gateway.abuse.caps import check_caps
from gateway.endpoints import Endpoint
from gateway.errors import GatewayError, NotFound
from gateway.exchange import Exchange
from gateway.headers import Headers
from gateway.inquiry import Caller, Inquiry
from gateway.peek import peek, peek_beside
from gateway.plane.chunks import Dechunker
from gateway.plane.flight import Flight
from gateway.plane.heads import RequestHead
from gateway.plane.plane import Plane

JSON: Headers = [(b"content-type", b"application/json")]


class CutOff(Exception):
    """The answer broke off: its engine was lost after the first byte."""


@dataclass(slots=True)
class Answer:
    """``body`` whole; a stream is asked for by ``ask_streamed``."""

    status: int
    head: bytes
    body: bytes
    request_id: str

    @property
    def headers(self) -> Headers:
        split = (line.partition(b":") for line in self.head.split(b"\r\n") if line)
        return [(name.strip().lower(), value.strip()) for name, _, value in split]


@dataclass(slots=True, eq=False)
class _Inbox:
    """An Outlet that keeps what it is given."""

    plane: Plane
    exchange: Exchange
    flight: Flight | None = None
    status: int = 0
    head: bytes = b""
    parts: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    cut: bool = False
    began: asyncio.Event = field(default_factory=asyncio.Event)

    def whole(self, status: int, head: bytes, body: bytes) -> None:
        self.begin(status, head, len(body))
        self.write(body)
        self.end()

    def begin(self, status: int, head: bytes, length: int | None) -> None:
        self.status, self.head = status, head
        self.exchange.status = status
        self.began.set()

    def write(self, data: bytes) -> None:
        if data:
            self.parts.put_nowait(data)

    def write_chunks(self, data: bytes, payload_bytes: int) -> None:
        dechunker = Dechunker()
        dechunker.feed(data)
        self.write(dechunker.take())

    def end(self) -> None:
        self._over()

    def abort(self) -> None:
        self.cut = True
        self._over()

    def _over(self) -> None:
        self.began.set()
        self.parts.put_nowait(None)
        self.plane.observe(self.exchange)
        self.flight = None

    def leave(self) -> None:
        if self.flight is not None:
            flight, self.flight = self.flight, None
            flight.cancel()
            self.plane.observe(self.exchange)

    async def pieces(self) -> AsyncIterator[bytes]:
        while (part := await self.parts.get()) is not None:
            yield part
        if self.cut:
            raise CutOff


async def ask(
    plane: Plane,
    path: str,
    body: bytes,
    caller: Caller,
    *,
    priority: int = 0,
    timeout_s: float | None = None,
    request_id: str | None = None,
) -> Answer:
    """One unstreamed request; errors are answers as a caller would get them. Cancelling it frees what it took.

    Raises NotFound for a path that no endpoint has, CutOff.
    """
    inbox = _send(plane, path, body, caller, priority, timeout_s, request_id)
    try:
        pieces = [piece async for piece in inbox.pieces()]
        return Answer(inbox.status, inbox.head, b"".join(pieces), inbox.exchange.request_id)
    finally:
        inbox.leave()


async def ask_streamed(
    plane: Plane,
    path: str,
    body: bytes,
    caller: Caller,
    *,
    priority: int = 0,
    timeout_s: float | None = None,
    request_id: str | None = None,
) -> AsyncIterator[bytes]:
    """The body as it comes; events where the request asks for a stream. Raises NotFound, CutOff."""
    inbox = _send(plane, path, body, caller, priority, timeout_s, request_id)
    try:
        async for piece in inbox.pieces():
            yield piece
    finally:
        inbox.leave()


def _send(
    plane: Plane,
    path: str,
    body: bytes,
    caller: Caller,
    priority: int,
    timeout_s: float | None,
    request_id: str | None,
) -> _Inbox:
    found = plane.paths.find(path)
    if found is None:
        raise NotFound(f"There is no inference endpoint at {path[:200]}.")
    endpoint, path_model = found
    exchange = Exchange(request_id or request_ids.new_request_id(), endpoint.method, path, plane.now())
    exchange.endpoint = endpoint.name
    exchange.key_id, exchange.tenant, exchange.project = caller.key_id, caller.tenant, caller.project
    exchange.request_bytes = len(body)
    exchange.traceparent = plane.tracer.traceparent(None)
    inbox = _Inbox(plane, exchange)
    inbox.flight = flight = Flight(plane, inbox, exchange, _head(endpoint, path, path_model, JSON))
    try:
        inquiry = _inquiry(plane, endpoint, path_model, body, caller, priority, timeout_s, exchange)
    except GatewayError as error:
        flight.fail(error)
        return inbox
    flight.start(inquiry)
    return inbox


def _head(endpoint: Endpoint, path: str, path_model: str | None, headers: Iterable[tuple[bytes, bytes]]) -> RequestHead:
    head = RequestHead()
    head.method, head.path, head.headers = endpoint.method, path, list(headers)
    head.endpoint, head.path_model, head.looked_up = endpoint, path_model, True
    return head


def _inquiry(
    plane: Plane,
    endpoint: Endpoint,
    path_model: str | None,
    body: bytes,
    caller: Caller,
    priority: int,
    timeout_s: float | None,
    exchange: Exchange,
) -> Inquiry:
    hosts = frozenset(plane.limits.media_hosts)
    found = (
        peek_beside(body, path_model, plane.caps) if path_model is not None else peek(body, endpoint, plane.caps, hosts)
    )
    hold_s = plane.limits.hold_timeout_s if timeout_s is None else timeout_s
    account = plane.accounts.of_caller(caller)
    account.check_endpoint(endpoint)
    plane.guard.check_key_blocks(caller.key_id)
    if account.capped:
        body = check_caps(account.tenant.caps, endpoint, found, body)
    return Inquiry(
        endpoint=endpoint,
        account=account,
        caller=replace(caller, priority=max(caller.priority, priority)),
        headers=JSON,
        body=body,
        peek=found,
        deadline_s=exchange.started_s + hold_s,
        priority=priority,
        path_model=path_model,
    )
