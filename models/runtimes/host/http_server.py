"""The engine's own HTTP server on a unix socket and, where other nodes are to reach it, behind a door on TCP."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import uvicorn

from models.runtimes.host.door import Door
from models.runtimes.host.doorkeeper import Doorkeeper
from models.runtimes.protocol import Asgi, EngineError

STARTUP_POLL_S = 0.001
KEEP_ALIVE_S = 120  # longer than any pool of the callers keeps a connection idle, so that they close it, not we


class _Server(uvicorn.Server):
    """Signals belong to the host."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass(frozen=True, slots=True)
class _Serving:
    server: uvicorn.Server
    task: asyncio.Task[None]

    @classmethod
    def begin(cls, app: Asgi, listener: socket.socket, lifespan: Literal["auto", "off"], strict: bool) -> _Serving:
        server = _Server(
            uvicorn.Config(
                app,
                http=Doorkeeper if strict else "auto",
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan=lifespan,
                ws="websockets-sansio",
                timeout_keep_alive=KEEP_ALIVE_S,
            )
        )
        return cls(server, asyncio.get_running_loop().create_task(_serve(server, listener)))

    def close(self) -> None:
        self.task.cancel()
        # Idle ones, too: the process may go on, and each of them holds the whole application.
        for connection in tuple(self.server.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()


class HttpServer:
    """Serves an ASGI application on a bound unix socket, which nobody can connect to before ``start``.

    ``door``: where it is to be served besides.
    """

    def __init__(self, listener: socket.socket, door: Door | None = None) -> None:
        self._listener = listener
        self._door = door
        self._serving: list[_Serving] = []
        self._ending: asyncio.Task[None] | None = None  # of the application's lifespan

    async def start(self, app: Asgi) -> None:
        """Returns once connections are accepted. Raises EngineError when the application does not start."""
        # "auto": an application that has no use for a lifespan is served all the same. It has but one.
        self._serving.append(await self._begin(app, self._listener, "auto", strict=False))
        if self._door is not None:
            guarded = self._door.guard(app)
            self._serving.append(await self._begin(guarded, self._door.listener, "off", strict=True))

    async def _begin(
        self, app: Asgi, listener: socket.socket, lifespan: Literal["auto", "off"], *, strict: bool
    ) -> _Serving:
        """``strict``: callers may be anybody."""
        serving = _Serving.begin(app, listener, lifespan, strict)
        try:
            while not serving.server.started:
                if serving.task.done():
                    raise EngineError("the engine's HTTP application did not start: see its log")
                await asyncio.sleep(STARTUP_POLL_S)
        except BaseException:
            serving.close()
            raise
        return serving

    def close(self) -> None:
        """At once; answers that are under way are cut."""
        for serving in self._serving:
            serving.close()
        if self._serving:
            self._ending = asyncio.get_running_loop().create_task(self._serving[0].server.lifespan.shutdown())
            self._serving.clear()
        self._listener.close()
        if self._door is not None:
            self._door.close()


async def _serve(server: uvicorn.Server, listener: socket.socket) -> None:
    # uvicorn says "did not start" with SystemExit, which would take the event loop along.
    with contextlib.suppress(SystemExit):
        await server.serve(sockets=[listener])
