"""A transport whose engines are scripts: what each send meets is written down in advance."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass, field

from gateway.headers import Headers
from gateway.transport import UpstreamLost, UpstreamResponse

JSON: Headers = [(b"content-type", b"application/json")]
EVENTS: Headers = [(b"content-type", b"text/event-stream; charset=utf-8")]


@dataclass
class Says:
    """An answer. ``then_lost``: the connection breaks where the body should go on. ``every_s``: before each chunk."""

    chunks: Iterable[bytes] = ()
    status: int = 200
    headers: Headers = field(default_factory=lambda: list(JSON))
    then_lost: bool = False
    every_s: float = 0.0
    after_s: float = 0.0


@dataclass
class Refuses:
    """No connection."""


@dataclass
class Hangs:
    """Takes the request and never answers."""


Script = Says | Refuses | Hangs


@dataclass
class Sent:
    endpoint: str
    method: str
    path: str
    headers: Headers
    body: bytes


class ScriptedResponse:
    def __init__(self, says: Says, transport: FakeTransport) -> None:
        self.status = says.status
        self.headers = says.headers
        self._says = says
        self._transport = transport
        self._closed = False
        transport.open_responses += 1

    async def chunks(self) -> AsyncIterator[bytes]:
        for chunk in self._says.chunks:
            await asyncio.sleep(self._says.every_s)
            yield chunk
        if self._says.then_lost:
            raise UpstreamLost("broke off", connected=True)

    async def close(self) -> None:
        assert not self._closed, "closed twice"
        self._closed = True
        self._transport.open_responses -= 1


@dataclass
class FakeTransport:
    """Plays its scripts in order, the last one again and again."""

    scripts: list[Script]
    sent: list[Sent] = field(default_factory=list)
    open_responses: int = 0
    cancelled: int = 0

    async def open(self, endpoint: str, method: str, path: str, headers: Headers, body: bytes) -> UpstreamResponse:
        self.sent.append(Sent(endpoint, method, path, headers, body))
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        if isinstance(script, Refuses):
            raise UpstreamLost("refused", connected=False)
        try:
            await (asyncio.Event().wait() if isinstance(script, Hangs) else asyncio.sleep(script.after_s))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        assert isinstance(script, Says)
        return ScriptedResponse(script, self)

    async def retain(self, endpoints: Collection[str]) -> None: ...

    async def close(self) -> None: ...
