"""Connections to engines: kept open and used again, one request at a time, over unix sockets, TCP or TLS."""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol, cast
from urllib.parse import urlsplit

from gateway.headers import from_engine, lines
from gateway.plane.chunks import BadChunk, Dechunker, whole_events
from gateway.plane.heads import AnswerHead, BadHead, Memory, parse_answer

UNIX = "unix:"
CONNECT_TIMEOUT_S = 5.0
TICK_S = 0.5
KEEP_IDLE_TICKS = 60  # half a minute: shorter than engines keep an idle connection
LONGEST_HEAD_BYTES = 64 << 10
EVENTS = "text/event-stream"
MOST_STARTS = 256  # paths that name models may be many


class Asker(Protocol):
    """Who has sent a request. Calls come in the order connected, answer, payload or chunks, ended; or lost at any time.

    ``takes_chunks``: whole events may be handed over in the engine's own framing (``chunks``). ``sent_again``: the
    request was sent a second time because it crossed the end of an idle connection, which is granted once.
    """

    takes_chunks: bool
    sent_again: bool

    def connected(self, upstream: Upstream) -> None:
        """The request goes out now, unless the asker aborts."""

    def answer(self, head: AnswerHead) -> None: ...

    def payload(self, data: bytes) -> None: ...

    def chunks(self, data: bytes, payload_bytes: int) -> None: ...

    def ended(self) -> None: ...

    def whole(self, head: AnswerHead, body: bytes) -> None:
        """``answer``, ``payload`` and ``ended`` at once: all of it came together."""

    def lost(self, reason: str, *, connected: bool) -> None:
        """``connected`` False: not a byte of the request was sent."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where an endpoint is. ``path``: of a unix socket. ``base``: put before the path of each request."""

    path: str | None = None
    host: str = ""
    port: int = 0
    tls: bool = False
    base: bytes = b""
    authority: bytes = b"engine"

    @classmethod
    def parse(cls, endpoint: str) -> Address:
        """ "unix:/path", "http://host:port/base" or "https://...". Raises ValueError."""
        if endpoint.startswith(UNIX):
            return cls(path=endpoint.removeprefix(UNIX))
        url = urlsplit(endpoint)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"{endpoint!r} is neither unix:/path nor http(s)://host:port")
        tls = url.scheme == "https"
        port = url.port or (443 if tls else 80)
        base = url.path.rstrip("/").encode()
        return cls(host=url.hostname, port=port, tls=tls, base=base, authority=url.netloc.rpartition("@")[2].encode())


class Upstream(asyncio.Protocol):
    """One connection to an engine."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._asker: Asker | None = None
        self._transport: asyncio.Transport | None = None
        self._head: AnswerHead | None = None
        self._buffer = b""
        self._left = 0
        self._dechunker: Dechunker | None = None
        self._memory: Memory[AnswerHead] = Memory()
        self._request = b""
        self._paused = False
        self.reused = False
        self.idle_ticks = 0  # how often the pool was looked through since it was put back

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's do not inherit from it

    def send(self, asker: Asker, request: bytes) -> None:
        """A request, head and body."""
        assert self._transport is not None
        self._asker = asker
        asker.connected(self)
        if self._asker is not None:  # it may have lost interest while this connection was made
            self._request = request if self.reused else b""
            self._transport.write(request)

    def abort(self) -> None:
        """Nobody wants the answer any more: the engine sees the connection break."""
        self._asker = None
        self._pool.open.discard(self)
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        if self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and self._paused:
            self._paused = False
            self._transport.resume_reading()

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        self._pool.open.discard(self)
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        asker = self._asker
        if asker is None:  # nobody asked anything
            self.abort()
        elif self._head is None:
            self._read_head(data)
        elif self._dechunker is not None:
            if asker.takes_chunks and self._dechunker.between_chunks and (size := whole_events(data)):
                asker.chunks(data, size)
            else:
                self._read_chunks(data)
        elif self._head.length is None:
            asker.payload(data)
        else:
            self._read_length(data)

    def _read_head(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(data) > LONGEST_HEAD_BYTES:
                self._lose("the head of its answer is too long")
            self._buffer = data
            return
        self._request = b""
        raw, rest = data[:end], data[end:]
        try:
            head = self._head_of(raw)
        except BadHead as wrong:
            self._lose(f"its answer is not HTTP: {wrong.message}")
            return
        if head.status < 200:  # 100 Continue and the like: the answer is yet to come
            if rest:
                self._read_head(rest)
            return
        assert self._asker is not None
        if head.length is not None and len(rest) == head.length and not head.chunked:
            asker, self._asker = self._asker, None
            self._go_back(head.keep_alive)
            asker.whole(head, rest)
            return
        self._head = head
        if head.chunked:
            self._dechunker = Dechunker()
        else:
            self._left = head.length or 0
        self._asker.answer(head)
        if head.length == 0 and not head.chunked:
            self._finish(rest)
        elif rest:
            self.data_received(rest)

    def _head_of(self, raw: bytes) -> AnswerHead:
        length = self._memory.recall(raw)
        if length is not None:
            head = self._memory.value
            assert head is not None
            if length >= 0 and head.status not in (204, 304):
                head.length = length
            return head
        head = parse_answer(raw)
        head.lines = lines(from_engine(head.headers, events=head.media.startswith(EVENTS)))
        self._memory.keep(raw, head)
        return head

    def _read_length(self, data: bytes) -> None:
        asker = self._asker
        assert asker is not None
        size = len(data)
        if size < self._left:
            self._left -= size
            asker.payload(data)
            return
        rest = data[self._left :]
        asker.payload(data[: self._left] if rest else data)
        self._finish(rest)

    def _read_chunks(self, data: bytes) -> None:
        dechunker, asker = self._dechunker, self._asker
        assert dechunker is not None
        assert asker is not None
        try:
            rest = dechunker.feed(data)
        except BadChunk as wrong:
            if payload := dechunker.take():
                asker.payload(payload)
            self._lose(f"its answer is not HTTP: {wrong}")
            return
        if payload := dechunker.take():
            asker.payload(payload)
        if dechunker.ended:
            self._finish(rest)

    def _finish(self, rest: bytes) -> None:
        """The answer is complete. Whatever follows it was not asked for, and makes the connection unusable."""
        asker, self._asker = self._asker, None
        head, self._head = self._head, None
        self._dechunker = None
        if asker is None:
            return
        assert head is not None
        self._go_back(head.keep_alive and not rest and (head.chunked or head.length is not None))
        asker.ended()

    def _go_back(self, usable: bool) -> None:
        self.reused = True
        if self._paused:
            self.resume()
        if usable:
            self._pool.put(self)
        else:
            self.close()

    def _lose(self, reason: str) -> None:
        asker = self._asker
        self.abort()
        if asker is not None:
            asker.lost(reason, connected=True)

    def eof_received(self) -> None:
        """The transport closes by itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.gone(self)
        asker, self._asker = self._asker, None
        if asker is None:
            return
        if self._request and not self._buffer and not asker.sent_again:
            # It was closed while it lay idle, and the request crossed that news: nobody has worked on it.
            asker.sent_again = True
            self._pool.send(asker, self._request, fresh=True)
        elif self._head is not None and self._head.length is None and not self._head.chunked and exc is None:
            asker.ended()
        else:
            asker.lost("the connection broke", connected=True)


class Pool:
    """The connections to one endpoint."""

    def __init__(self, endpoint: str, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        self.endpoint = endpoint
        self.address = Address.parse(endpoint)
        self.extra_lines = b""
        self.starts: dict[str, bytes] = {}  # by path: how a request there begins
        self.open: set[Upstream] = set()
        self._idle: list[Upstream] = []
        self._connect_timeout_s = connect_timeout_s
        self._connecting: set[asyncio.Task[None]] = set()
        self._retired = False

    def send(self, asker: Asker, request: bytes, *, fresh: bool = False) -> None:
        while self._idle and not fresh:
            upstream = self._idle.pop()  # the one used last: the others may grow old and go
            if upstream.usable:
                upstream.send(asker, request)
                return
        task = asyncio.get_running_loop().create_task(self._connect_and_send(asker, request))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def start(self, method: str, path: str) -> bytes:
        """The request line and the host of a request; remembered."""
        if len(self.starts) >= MOST_STARTS:
            self.starts.clear()
        address = self.address
        whole = f"{method} {address.base.decode()}{path} HTTP/1.1\r\nhost: {address.authority.decode()}\r\n".encode()
        self.starts[path] = whole
        return whole

    def put(self, upstream: Upstream) -> None:
        if self._retired:
            upstream.close()
            return
        upstream.idle_ticks = 0
        self._idle.append(upstream)

    def gone(self, upstream: Upstream) -> None:
        self.open.discard(upstream)
        if upstream in self._idle:
            self._idle.remove(upstream)

    def tick(self) -> None:
        """Close those that have lain idle for KEEP_IDLE_TICKS."""
        for upstream in self._idle:
            upstream.idle_ticks += 1
        while self._idle and self._idle[0].idle_ticks > KEEP_IDLE_TICKS:
            self._idle.pop(0).close()

    def retire(self) -> None:
        """Nothing new goes there; what is on its way goes on."""
        self._retired = True
        while self._idle:
            self._idle.pop().close()

    def abort(self) -> None:
        self.retire()
        for upstream in tuple(self.open):
            upstream.abort()

    async def connect(self) -> Upstream:
        """Raises OSError, TimeoutError."""
        loop = asyncio.get_running_loop()
        upstream = Upstream(self)
        address = self.address
        async with asyncio.timeout(self._connect_timeout_s):
            if address.path is not None:
                await loop.create_unix_connection(lambda: upstream, address.path)
            else:
                context = _tls() if address.tls else None
                transport, _ = await loop.create_connection(lambda: upstream, address.host, address.port, ssl=context)
                no_delay(transport)
        self.open.add(upstream)
        return upstream

    async def _connect_and_send(self, asker: Asker, request: bytes) -> None:
        try:
            upstream = await self.connect()
        except (OSError, TimeoutError) as refused:
            asker.lost(type(refused).__name__, connected=False)
            return
        upstream.send(asker, request)


@functools.cache
def _tls() -> ssl.SSLContext:
    """Reading the system's certificates takes milliseconds: once."""
    return ssl.create_default_context()


def no_delay(transport: asyncio.BaseTransport) -> None:
    """Small events must not wait for the acknowledgement of the one before (Nagle and delayed ACK: 40 ms)."""
    raw = transport.get_extra_info("socket")
    if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Upstreams:
    """All endpoints. ``extra_headers``: lines that every request to an endpoint gets, such as its own API key."""

    def __init__(self, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        self.extra_headers: dict[str, bytes] = {}
        self._connect_timeout_s = connect_timeout_s
        self._pools: dict[str, Pool] = {}

    def pool(self, endpoint: str) -> Pool:
        pool = self._pools.get(endpoint)
        if pool is None:
            pool = self._pools[endpoint] = Pool(endpoint, self._connect_timeout_s)
            pool.extra_lines = self.extra_headers.get(endpoint, b"")
        return pool

    def retain(self, endpoints: Collection[str]) -> None:
        """Let go of connections to any other endpoint, once they are not used any more."""
        for gone in [known for known in self._pools if known not in endpoints]:
            self._pools.pop(gone).retire()
        for endpoint, pool in self._pools.items():
            pool.extra_lines = self.extra_headers.get(endpoint, b"")

    def tick(self) -> None:
        """To be called every TICK_S."""
        for pool in self._pools.values():
            pool.tick()

    async def probe(self, endpoint: str, timeout_s: float, path: str = "/health") -> bool:
        """Whether the engine answers a question of its own, on a connection of its own."""
        probe = _Probe()
        pool = Pool(endpoint, timeout_s)
        request = b"GET %b%b HTTP/1.1\r\nhost: %b\r\nconnection: close\r\n%b\r\n" % (
            pool.address.base, path.encode(), pool.address.authority, self.extra_headers.get(endpoint, b""),
        )  # fmt: skip
        try:
            async with asyncio.timeout(timeout_s):
                pool.send(probe, request, fresh=True)
                return await probe.answered
        except TimeoutError:
            return False
        finally:
            pool.abort()

    def abort(self) -> None:
        while self._pools:
            self._pools.popitem()[1].abort()


class _Probe:
    takes_chunks = False
    sent_again = False

    def __init__(self) -> None:
        self.answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def connected(self, upstream: Upstream) -> None: ...

    def answer(self, head: AnswerHead) -> None:
        self._settle(head.status < 500)

    def payload(self, data: bytes) -> None: ...

    def chunks(self, data: bytes, payload_bytes: int) -> None: ...

    def ended(self) -> None: ...

    def whole(self, head: AnswerHead, body: bytes) -> None:
        self.answer(head)

    def lost(self, reason: str, *, connected: bool) -> None:
        self._settle(False)

    def _settle(self, alive: bool) -> None:
        if not self.answered.done():
            self.answered.set_result(alive)
