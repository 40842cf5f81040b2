"""What a worker does besides answering: it tells its master, ends with it, and takes up new certificates."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket

import structlog

from gateway.siblings import Siblings
from gateway.tls import Tls, Watcher
from gateway.workers import READY

log = structlog.get_logger(__name__)


class Seat:
    """``line``: the descriptor on which the master listens; None without one."""

    def __init__(self, line: int | None, siblings: Siblings, tls: Tls | None) -> None:
        self._line = None if line is None else socket.socket(fileno=line)
        self._siblings = siblings
        self._watcher = None if tls is None else Watcher(tls)
        self._tasks: list[asyncio.Task[None]] = []

    def take(self) -> None:
        """In the event loop, once requests are answered."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        self._tasks.append(loop.create_task(self._answer_siblings()))
        if self._watcher is not None:
            self._tasks.append(loop.create_task(self._watcher.run()))
        if self._line is not None:
            self._line.setblocking(False)
            loop.add_reader(self._line, self._on_line)
            with contextlib.suppress(OSError):  # the master is gone: _on_line sees it
                self._line.send(READY)

    async def _answer_siblings(self) -> None:
        try:
            await self._siblings.open()
        except OSError as problem:
            log.error("the other workers cannot ask this one", reason=str(problem))

    def _on_line(self) -> None:
        """The master never says anything: it has ended, and nobody would replace or stop this worker any more."""
        assert self._line is not None
        with contextlib.suppress(OSError):
            if self._line.recv(16):
                return
        asyncio.get_running_loop().remove_reader(self._line)
        log.warning("the master is gone; this worker leaves as well")
        os.kill(os.getpid(), signal.SIGTERM)

    def _on_hangup(self) -> None:
        if self._watcher is not None:
            self._watcher.look()
