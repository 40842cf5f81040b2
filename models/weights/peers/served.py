"""The server of a node's shares as a process of its own: started when somebody first asks, again when it has died."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from models.weights.child import CODE_ROOT
from models.weights.errors import TransferFailed
from models.weights.peers.serve import Listening

START_S = 15.0


@dataclass(frozen=True, slots=True)
class Door:
    """``host``: the node's address. ``secret_file``: of the cluster."""

    root: Path
    node: str
    host: str
    secret_file: Path


class ServedShares:
    """One event loop. ``close`` ends the process; so does the end of this one."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self._child: asyncio.subprocess.Process | None = None
        self._port = 0
        self._starting = asyncio.Lock()

    async def port(self) -> int:
        """Where it listens. Raises TransferFailed when it cannot."""
        async with self._starting:
            if self._child is None or self._child.returncode is not None:
                await self.close()
                self._child = await self._spawn()
                self._port = await self._listening(self._child)
            return self._port

    async def close(self) -> None:
        child, self._child = self._child, None
        if child is None or child.returncode is not None:
            return
        assert child.stdin is not None
        child.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()

    async def _spawn(self) -> asyncio.subprocess.Process:
        door = self.door
        path = os.pathsep.join(filter(None, (str(CODE_ROOT), os.environ.get("PYTHONPATH"))))
        secret_file = str(door.secret_file)
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "models.weights.peers.serve"),
            *("--root", str(door.root), "--node", door.node, "--host", door.host, "--secret-file", secret_file),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )

    async def _listening(self, child: asyncio.subprocess.Process) -> int:
        assert child.stdout is not None
        try:
            async with asyncio.timeout(START_S):
                said = msgspec.json.decode(await child.stdout.readline(), type=Listening)
        except (TimeoutError, msgspec.DecodeError, UnicodeDecodeError):
            said = Listening(error="its process ended without a word")
        if said.port:
            return said.port
        await self.close()
        raise TransferFailed(
            f"the weights of {self.door.node} cannot be given to others: {said.error}", "look at its log"
        )
