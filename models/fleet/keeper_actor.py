"""The Ray actor that owns the running engines of a node, each for as long as both live.

One for all of a node's replicas, not one for each: a process of Ray's takes about as much memory as a small engine, and
making one takes longer than starting that engine. It does nothing but listen; engines outlive it by their leases.
"""

from __future__ import annotations

import os

from models.fleet.fence import Fence
from models.fleet.keeper import EngineKeeper
from models.fleet.node_place import NodeSettings
from models.fleet.pulse import SILENT_AFTER_S
from models.runtimes.client import EngineConnection
from models.runtimes.protocol import EngineError, EngineStatus, Fault


class KeeperActor:
    """Engines are named by the path of their control socket. Every method raises EngineError.

    ``epoch``: of the controller that gives a command. Raises Superseded once the node has heard a later one.
    """

    def __init__(self, settings: NodeSettings) -> None:
        self._fence = Fence(settings.find_home().fence)
        self._kept: dict[str, EngineKeeper] = {}

    async def pid(self) -> int:
        return os.getpid()

    async def adopt(self, epoch: int, control_path: str, pid: int) -> EngineStatus:
        """Connect to the engine whose process is ``pid`` and keep its lease."""
        self._fence.obey(epoch)
        kept = self._kept.get(control_path)
        if kept is None or kept.status.pid != pid or kept.end() is not None:
            await self._release(control_path)
            kept = await self._connect(control_path, pid)
        return kept.status

    async def _connect(self, control_path: str, pid: int) -> EngineKeeper:
        try:
            connection = await EngineConnection.connect(control_path, SILENT_AFTER_S)
        except TimeoutError as problem:
            raise EngineError(f"the engine did not answer for {SILENT_AFTER_S:.0f} s", "hang") from problem
        except OSError as problem:
            raise EngineError("the engine is gone") from problem
        if connection.status.pid != pid:  # another one has come in its place
            await connection.close()
            raise EngineError("the engine is gone")
        kept = self._kept[control_path] = EngineKeeper(connection)
        return kept

    def _keeper(self, control_path: str) -> EngineKeeper:
        kept = self._kept.get(control_path)
        if kept is None:
            raise EngineError("this engine is not kept here")
        return kept

    async def wait_ready(self, control_path: str) -> EngineStatus:
        return await self._keeper(control_path).wait_ready()

    async def sleep(self, epoch: int, control_path: str) -> EngineStatus:
        self._fence.obey(epoch)
        return await self._keeper(control_path).sleep()

    async def wake(self, epoch: int, control_path: str) -> EngineStatus:
        self._fence.obey(epoch)
        return await self._keeper(control_path).wake()

    async def watch(self, control_path: str) -> tuple[str, Fault] | None:
        """Wait until the engine is gone; why, or None when that was wanted."""
        kept = self._keeper(control_path)
        reason = await kept.watch()
        return None if reason is None else (reason, kept.fault)

    async def release(self, epoch: int, control_path: str) -> None:
        """Let go of an engine, if it is kept: it has ended, or somebody else keeps it."""
        self._fence.obey(epoch)
        await self._release(control_path)

    async def _release(self, control_path: str) -> None:
        kept = self._kept.pop(control_path, None)
        if kept is not None:
            await kept.release()
