"""An ASGI application that passes everything on to a server behind a unix socket, and streams back what it answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from models.runtimes.host.gate_socket import refuse_socket

log = logging.getLogger("roundhouse.engine")

# RFC 9110, section 7.6.1: meant for the next hop only. The server that we run in writes Date and Server of its own.
HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding"
    b" upgrade".split()
)
NO_SOCKETS = b'{"error": {"message": "Not Found"}}'
NOT_PASSED_ON = HOP_BY_HOP | {b"host", b"expect"}
NOT_PASSED_BACK = HOP_BY_HOP | {b"date", b"server"}
ADDED_BY_AIOHTTP = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class ReverseProxy:
    """``allowed`` says of a path whether it is passed on; others are not found.

    A client that leaves closes the connection to the server, which aborts the request there.
    """

    def __init__(self, session: Callable[[], aiohttp.ClientSession], allowed: Callable[[str], bool]) -> None:
        self._new_session = session
        self._allowed = allowed
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            await refuse_socket(scope, receive, send, NO_SOCKETS, 404)
        elif scope["type"] != "http":
            raise ValueError(f"the proxy knows no {scope['type']}")
        elif not self._allowed(scope["path"]):
            await _refuse(send, 404, "not_found", "There is nothing here.")
        else:
            await _while_connected(self._relay, _Body(receive), scope, send)

    async def _lifespan(self, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                await self.close()
                return

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _relay(self, body: _Body, scope: Any, send: Any) -> None:
        if self._session is None:
            self._session = self._new_session()
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        path = (scope.get("raw_path") or scope["path"].encode()) + query
        begun = False
        try:
            async with self._session.request(
                scope["method"],
                URL("http://server" + path.decode("latin-1"), encoded=True),
                headers=_headers(scope["headers"], NOT_PASSED_ON),
                skip_auto_headers=ADDED_BY_AIOHTTP,
                data=body.parts() if _has_body(scope["headers"]) else None,
                allow_redirects=False,
                auto_decompress=False,
            ) as response:
                headers = [pair for pair in response.raw_headers if pair[0].lower() not in NOT_PASSED_BACK]
                await send({"type": "http.response.start", "status": response.status, "headers": headers})
                begun = True
                async for chunk in response.content.iter_any():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except aiohttp.ClientError as problem:
            log.warning("%s %s: vLLM's server failed: %s", scope["method"], scope["path"], problem)
            if not begun:
                await _refuse(send, 503, "engine_unavailable", "The engine's server does not answer.")
            # Else the answer stays unfinished, and whoever reads it sees that it was cut.


class _Body:
    """A request's body, and after it the client's leaving."""

    def __init__(self, receive: Any) -> None:
        self._receive = receive
        self._read = asyncio.Event()

    async def parts(self) -> AsyncIterator[bytes]:
        while not self._read.is_set():
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError("the client has left")
            if not message.get("more_body"):
                self._read.set()
            yield message.get("body", b"")

    async def until_client_leaves(self, without_body: bool) -> None:
        if not without_body:
            await self._read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def _while_connected(relay: Callable[[_Body, Any, Any], Any], body: _Body, scope: Any, send: Any) -> None:
    relaying = asyncio.ensure_future(relay(body, scope, send))
    leaving = asyncio.ensure_future(body.until_client_leaves(not _has_body(scope["headers"])))
    try:
        await asyncio.wait({relaying, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not relaying.done():
            relaying.cancel()
        await asyncio.gather(relaying, leaving, return_exceptions=True)
    if not relaying.cancelled() and (problem := relaying.exception()) and not isinstance(problem, ConnectionError):
        raise problem


def _has_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in headers)


def _headers(pairs: Iterable[tuple[bytes, bytes]], without: frozenset[bytes]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs if name not in without]


async def _refuse(send: Any, status: int, code: str, message: str) -> None:
    kind = "invalid_request_error" if status < 500 else "service_unavailable"
    error = {"message": message, "type": kind, "param": None, "code": code}
    body = msgspec.json.encode({"error": error})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
