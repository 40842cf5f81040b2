"""Owns one running engine: renews its lease, passes orders on, and notices when it is gone.

Used by the node actor until a replica actor has taken over, and by the replica actor from then on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from models.runtimes.client import EngineConnection
from models.runtimes.protocol import EngineError, EngineStatus

RENEWALS_PER_LEASE = 4  # three lost renewals are survived
STOP_GRACE_S = 5.0


class EngineKeeper:
    """Keeps the engine behind ``connection`` alive until ``release`` or ``stop``."""

    def __init__(self, connection: EngineConnection) -> None:
        self._connection = connection
        self._stopping = False
        self._renewer = asyncio.get_running_loop().create_task(self._renew())

    @property
    def status(self) -> EngineStatus:
        return self._connection.status

    async def wait_ready(self) -> EngineStatus:
        """Raises EngineError when the engine fails to load."""
        return await self._connection.wait_ready()

    async def sleep(self) -> EngineStatus:
        return await self._connection.call("sleep")

    async def wake(self) -> EngineStatus:
        return await self._connection.call("wake")

    async def stop(self) -> None:
        """Ask the engine to end, then make sure of it; returns once its process is gone."""
        self._stopping = True
        with contextlib.suppress(EngineError, OSError):
            await asyncio.wait_for(self._connection.call("stop"), STOP_GRACE_S)
        await end_process(self.status, STOP_GRACE_S)
        await self.release()

    async def watch(self) -> str | None:
        """Wait until the engine's process is gone; the reason, or None when it was stopped or released on purpose."""
        await self._connection.closed.wait()
        return None if self._stopping else self._connection.end_reason()

    async def release(self) -> None:
        """Let go without ending the engine: somebody else keeps it."""
        self._stopping = True
        self._renewer.cancel()
        await self._connection.close()

    async def _renew(self) -> None:
        period_s = self.status.order.lease_s / RENEWALS_PER_LEASE
        while not self._connection.closed.is_set():
            with contextlib.suppress(EngineError, OSError):  # a dead engine shows in ``closed``
                await self._connection.call("renew")
            await asyncio.sleep(period_s)


def process_start_ticks(pid: int) -> int | None:
    """Start time of a process (field 22 of /proc/pid/stat), None when there is none or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


async def end_process(status: EngineStatus, grace_s: float) -> None:
    """Wait for the engine's process to end; after ``grace_s`` kill it."""
    started = process_start_ticks(status.pid)
    waited_s = 0.0
    while started is not None and process_start_ticks(status.pid) == started:
        if waited_s >= grace_s:
            with contextlib.suppress(ProcessLookupError):
                os.kill(status.pid, signal.SIGKILL)
            grace_s = float("inf")
        await asyncio.sleep(0.005)
        waited_s += 0.005
