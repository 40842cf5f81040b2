"""The logs of replicas that share a process: what Python code prints or logs goes to the log of its own replica.

Whose it is follows from the context that it runs in: an event loop's task, or the thread that a model computes on.
Descriptors 1 and 2 cannot be split, so what C libraries write goes to the log of the process.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import sys
from contextvars import ContextVar
from typing import TextIO

from models.runtimes.host.engine_log import LOOK_EVERY_S, EngineLog
from models.runtimes.logs import NAME
from models.runtimes.protocol import EngineOrder


class ReplicaLog:
    """One replica's log file. Raises OSError when it cannot be written."""

    def __init__(self, order: EngineOrder) -> None:
        self._file = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)  # a descriptor for the log to be put behind
        self._log = EngineLog(order)
        try:
            self._log.take((self._file,))
        except OSError:
            os.close(self._file)
            raise

    def write(self, text: str) -> None:
        if self._file >= 0:
            os.write(self._file, text.encode(errors="backslashreplace"))

    async def keep_bounded(self) -> None:
        """Look after its size until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self._log.turn_over()

    def close(self) -> None:
        """Threads that go on writing are not heard."""
        closing, self._file = self._file, -1
        if closing >= 0:
            os.close(closing)


CURRENT: ContextVar[ReplicaLog | None] = ContextVar("replica_log", default=None)


class SplitStream(io.TextIOBase):
    """Standard output or error of a shared process."""

    def __init__(self, behind: TextIO) -> None:
        self._behind = behind

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._behind.fileno()

    def write(self, text: str, /) -> int:
        log = CURRENT.get()
        if log is None:
            return self._behind.write(text)
        log.write(text)
        return len(text)

    def flush(self) -> None:
        self._behind.flush()


def split_outputs() -> None:
    """The handlers of our own logger go along: they were made before, with the stream that was there."""
    before, sys.stdout, sys.stderr = sys.stderr, SplitStream(sys.stdout), SplitStream(sys.stderr)
    for handler in logging.getLogger(NAME).handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is before:
            handler.setStream(sys.stderr)
