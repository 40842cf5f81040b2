"""The engine's own HTTP server on a unix socket, and the gate before it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import msgspec
import uvicorn

from models.runtimes.protocol import Asgi, EngineError

STARTUP_POLL_S = 0.001
KEEP_ALIVE_S = 120  # longer than any pool of the callers keeps a connection idle, so that they close it, not we


class Gate:
    """An ASGI application that counts what is in flight and, when shut, answers 503 to all but GET.

    ``GET`` stays open so that health and metrics can be asked of an engine that is asleep.
    """

    def __init__(self, app: Asgi) -> None:
        self._app = app
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._shut: bytes | None = None

    @property
    def in_flight(self) -> int:
        return self._in_flight

    def shut(self, code: str, message: str) -> None:
        error = {"message": message, "type": "service_unavailable", "param": None, "code": code}
        self._shut = msgspec.json.encode({"error": error})

    def open(self) -> None:
        self._shut = None

    async def drained(self) -> None:
        await self._idle.wait()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
        elif self._shut is not None:
            await _refuse(send, self._shut)
        else:
            self._in_flight += 1
            self._idle.clear()
            try:
                await self._app(scope, receive, send)
            finally:
                self._in_flight -= 1
                if not self._in_flight:
                    self._idle.set()


async def _refuse(send: Any, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _Server(uvicorn.Server):
    """Signals belong to the host."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serves an ASGI application on a bound unix socket, which nobody can connect to before ``start``."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._serving: asyncio.Task[None] | None = None

    async def start(self, app: Asgi) -> None:
        """Returns once connections are accepted. Raises EngineError when the application does not start."""
        server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="auto",  # an application that has no use for it is served all the same
                ws="none",
                timeout_keep_alive=KEEP_ALIVE_S,
            )
        )
        self._serving = asyncio.get_running_loop().create_task(self._serve(server))
        while not server.started:
            if self._serving.done():
                raise EngineError("the engine's HTTP application did not start: see its log")
            await asyncio.sleep(STARTUP_POLL_S)

    async def _serve(self, server: uvicorn.Server) -> None:
        # uvicorn says "did not start" with SystemExit, which would take the event loop along.
        with contextlib.suppress(SystemExit):
            await server.serve(sockets=[self._listener])

    def close(self) -> None:
        """At once; answers that are under way are cut."""
        if self._serving is not None:
            self._serving.cancel()
        self._listener.close()
