"""An engine made of bytes: it reads requests as strictly as it can, and answers with whatever a test tells it to."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.gateway.plane.protocol.wire import chunked

_REQUEST_LINE = re.compile(rb"([A-Z]+) (/[!-~]*) HTTP/1\.1")
_HEADER_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ?([\x20-\x7e\x80-\xff]*)")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came. ``connection``: which one it came on; ``turn``: the how-manieth on it, from 0."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int
    turn: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def how(self) -> dict[str, Any]:
        """What the caller's body says under "how" to the engine."""
        return dict(self.json.get("how", {}))

    def header(self, name: str) -> str | None:
        return next((value for given, value in self.headers if given == name), None)


@dataclass(eq=False)
class Link:
    """The engine's end of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    over: bool = False

    async def say(self, data: bytes) -> None:
        """Waits for room: a gateway that does not read stops it here."""
        self.writer.write(data)
        await self.writer.drain()

    async def end(self) -> None:
        """Everything said arrives, then the connection ends."""
        self.over = True
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()

    def die(self) -> None:
        """As a killed process: what the system still has of it arrives, and then nothing."""
        self.over = True
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Until the gateway closes its end."""
        with suppress(ConnectionError):
            while await self.reader.read(1 << 16):
                pass


Play = Callable[[Link, Asked], Awaitable[None]]
PLAIN = (
    b'{"id":"c1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"one two three"},"finish_reason":"stop","logprobs":null}],'
    b'"usage":{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5}}'
)


def whole(body: bytes = PLAIN, *headers: str, status: str = "200 OK", kind: str = "application/json") -> bytes:
    lines = (f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(body)}", *headers)
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def in_chunks(body: bytes = PLAIN, *sizes: int, end: bytes = b"0\r\n\r\n") -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + chunked(body, *sizes, end=end)


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


def event(text: str | None, **more: Any) -> bytes:
    """None: one without a choice."""
    choices = [] if text is None else [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices} | more
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


EVENTS = (
    event("one"),
    event(" two"),
    event(" three"),
    b"data: [DONE]\n\n",
)
# The same as vLLM sends it to a gateway that wants to know its tokens all the time: callers see EVENTS.
TOLD = (
    *(
        event(word, usage={"prompt_tokens": 2, "total_tokens": 3 + number, "completion_tokens": 1 + number})
        for number, word in enumerate(("one", " two", " three"))
    ),
    event(None, usage={"prompt_tokens": 2, "total_tokens": 5, "completion_tokens": 3}),
    b"data: [DONE]\n\n",
)


def streamed(*events: bytes) -> bytes:
    """The stream in HTTP's chunked framing, an event a chunk."""
    return STREAM_HEAD + b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in events or TOLD) + b"0\r\n\r\n"


async def answers(link: Link, asked: Asked) -> None:
    """As a sound engine does."""
    await link.say(streamed() if asked.json.get("stream") else whole())


@dataclass
class RawEngine:
    """``play`` answers each request; ``on_head``, if set, is told of it before its body was read.

    ``nonsense``: what came where a request should have begun, or between the lines of one. It must stay empty: a proxy
    that sends such bytes can be made to smuggle requests.
    """

    socket: Path
    play: Play = answers
    on_head: Play | None = None
    asked: list[Asked] = field(default_factory=list)
    nonsense: list[bytes] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    answering: int = 0
    healthy: bool = True
    _server: asyncio.Server | None = None
    _links: set[Link] = field(default_factory=set)

    @property
    def endpoint(self) -> str:
        return f"unix:{self.socket}"

    async def start(self) -> RawEngine:
        self._server = await asyncio.start_unix_server(self._serve, str(self.socket), backlog=4096)
        return self

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for link in tuple(self._links):
            link.die()
        self.socket.unlink(missing_ok=True)

    def anew(self) -> None:
        """Forget what was seen, and answer as a sound engine does."""
        self.play, self.on_head, self.healthy = answers, None, True
        self.asked.clear()
        self.nonsense.clear()

    def end_idle_links(self) -> None:
        for link in tuple(self._links):
            link.over = True
            link.writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        link = Link(reader, writer, self.connections)
        self._links.add(link)
        try:
            turn = 0
            while not link.over and await self._one(link, turn):
                turn += 1
        except ConnectionError:
            pass
        finally:
            self.open -= 1
            self._links.discard(link)
            writer.close()

    async def _one(self, link: Link, turn: int) -> bool:
        asked = await self._head(link, turn)
        if asked is None:
            return False
        if self.on_head is not None:
            await self.on_head(link, asked)
            if link.over:
                self.asked.append(asked)
                return False
        try:
            body = await link.reader.readexactly(int(asked.header("content-length") or 0))
        except asyncio.IncompleteReadError:
            return False
        asked = Asked(asked.method, asked.path, asked.headers, body, link.number, turn)
        if asked.path == "/health":
            if self.healthy:
                await link.say(whole(b""))
            else:
                await link.gone()
            return self.healthy
        self.asked.append(asked)
        self.answering += 1
        try:
            await self.play(link, asked)
        finally:
            self.answering -= 1
        return True

    async def _head(self, link: Link, turn: int) -> Asked | None:
        try:
            raw = await link.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as ended:
            if ended.partial:
                self.nonsense.append(ended.partial)
            return None
        first, *lines = raw[:-4].split(b"\r\n")
        request = _REQUEST_LINE.fullmatch(first)
        headers = [_HEADER_LINE.fullmatch(line) for line in lines]
        if request is None or None in headers:
            self.nonsense.append(raw)
            return None
        pairs = [(found[1].decode().lower(), found[2].decode("latin-1")) for found in headers if found is not None]
        names = [name for name, _ in pairs]
        if names.count("content-length") + names.count("transfer-encoding") > 1 or "transfer-encoding" in names:
            self.nonsense.append(raw)  # bodies go to engines with one length, and with nothing else
            return None
        return Asked(request[1].decode(), request[2].decode(), pairs, b"", link.number, turn)
