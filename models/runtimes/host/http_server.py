"""The engine's own HTTP server on a unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn

from models.runtimes.protocol import Asgi, EngineError

STARTUP_POLL_S = 0.001
KEEP_ALIVE_S = 120  # longer than any pool of the callers keeps a connection idle, so that they close it, not we


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
        self._server: uvicorn.Server | None = None
        self._ending: asyncio.Task[None] | None = None  # of the application's lifespan

    async def start(self, app: Asgi) -> None:
        """Returns once connections are accepted. Raises EngineError when the application does not start."""
        server = self._server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="auto",  # an application that has no use for it is served all the same
                ws="websockets-sansio",
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
        if self._server is not None:
            # Idle ones, too: the process may go on, and each of them holds the whole application.
            for connection in tuple(self._server.server_state.connections):
                if connection.transport is not None:
                    connection.transport.abort()
            self._ending = asyncio.get_running_loop().create_task(self._server.lifespan.shutdown())
            self._server = None
        self._listener.close()
