"""One worker's server: listening, serving until it is told to end, ending without losing a request."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import ssl
import threading
from collections.abc import Callable

import structlog
import uvloop

from gateway.ending import end
from gateway.listening import BACKLOG, listen
from gateway.plane.connection import Connection
from gateway.plane.plane import Plane

__all__ = ["Server", "listen", "make_server"]

LOOK_EVERY_S = 0.05
HANDSHAKE_TIMEOUT_S = 10.0
SIGNALS = (signal.SIGTERM, signal.SIGINT)

log = structlog.get_logger(__name__)


class Server:
    """``run`` serves until SIGTERM, SIGINT or ``should_exit``; then open answers have ``drain_timeout_s`` to finish.

    A second signal ends the wait for them. ``on_listening`` is called once requests are answered, ``on_leaving`` when
    it is told to end.
    """

    def __init__(
        self,
        plane: Plane,
        drain_timeout_s: float,
        on_listening: Callable[[], None],
        on_leaving: Callable[[], None],
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        self.should_exit = False
        self.force_exit = False
        self._plane = plane
        self._drain_timeout_s = drain_timeout_s
        self._on_listening = on_listening
        self._on_leaving = on_leaving
        self._ssl = ssl_context

    def run(self, sockets: list[socket.socket]) -> None:
        uvloop.run(self.serve(sockets))

    async def serve(self, sockets: list[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                loop.add_signal_handler(number, self._asked_to_end, asked)
        async with self._plane.lifespan():
            servers = [await self._listen(listener) for listener in sockets]
            ticking = asyncio.create_task(self._plane.run())
            # What start-up made stays: the collector need not look through it again and again.
            gc.collect()
            gc.freeze()
            self._on_listening()
            await self._until_asked(asked)
            self._on_leaving()
            for server in servers:
                server.close()
            await self._drain()
            await end([ticking])
            self._plane.upstreams.abort()

    async def _listen(self, listener: socket.socket) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(
            lambda: Connection(self._plane),
            sock=listener,
            backlog=BACKLOG,
            ssl=self._ssl,
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S if self._ssl is not None else None,
        )

    def _asked_to_end(self, asked: asyncio.Event) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
        asked.set()

    async def _until_asked(self, asked: asyncio.Event) -> None:
        while not self.should_exit:
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await asked.wait()
            except TimeoutError:
                pass

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._drain_timeout_s
        self._plane.drain()
        while self._plane.connections and loop.time() < until_s and not self.force_exit:
            await asyncio.sleep(LOOK_EVERY_S)
        if self._plane.connections:
            log.warning("open connections are cut", count=len(self._plane.connections))
            self._plane.kill()
            await asyncio.sleep(0)


def make_server(
    plane: Plane,
    drain_timeout_s: float,
    on_listening: Callable[[], None],
    on_leaving: Callable[[], None] = lambda: None,
    ssl: ssl.SSLContext | None = None,
) -> Server:
    """``run(sockets=[...])`` serves until it is told to end."""
    return Server(plane, drain_timeout_s, on_listening, on_leaving, ssl)
