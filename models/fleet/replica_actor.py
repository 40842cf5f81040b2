"""A thin Ray actor per replica: owns one engine child for as long as both live."""

from __future__ import annotations

import os

from models.fleet.keeper import EngineKeeper
from models.runtimes.client import EngineConnection
from models.runtimes.protocol import EngineError, EngineStatus


class ReplicaActor:
    def __init__(self, control_path: str) -> None:
        self._control_path = control_path
        self._keeper: EngineKeeper | None = None

    async def adopt(self) -> EngineStatus:
        """Connect to the engine and keep its lease. Raises EngineError when it is gone."""
        if self._keeper is None:
            try:
                self._keeper = EngineKeeper(await EngineConnection.connect(self._control_path))
            except OSError as problem:
                raise EngineError("the engine is gone") from problem
        return self._keeper.status

    def _kept(self) -> EngineKeeper:
        if self._keeper is None:
            raise EngineError("this replica has no engine yet")
        return self._keeper

    async def pid(self) -> int:
        return os.getpid()

    async def wait_ready(self) -> EngineStatus:
        return await self._kept().wait_ready()

    async def sleep(self) -> EngineStatus:
        return await self._kept().sleep()

    async def wake(self) -> EngineStatus:
        return await self._kept().wake()

    async def stop(self) -> None:
        await self._kept().stop()

    async def watch(self) -> str | None:
        """Wait until the engine is gone; why, or None when that was wanted."""
        return await self._kept().watch()
