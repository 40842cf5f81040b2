"""One Ray actor per node: knows its GPUs, orders engines from the node's launcher, finds the living ones."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from models.fleet.devices import gpus_of_node
from models.fleet.keeper import EngineKeeper, end_process
from models.fleet.protocol import FleetNode
from models.home import Home
from models.runtimes.client import EngineConnection, LauncherClient, scan
from models.runtimes.exits import read_exit_report
from models.runtimes.protocol import EngineError, EngineOrder, EngineStatus
from packers.types import NodeId

LAUNCHER_WAIT_S = 120.0


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    node: NodeId
    home: str
    simulated_bytes: tuple[int, ...] | None
    host_bytes: int


class NodeActor:
    """Keeps engines between their start and the moment their own replica actor has taken over."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._home = Home(Path(settings.home))
        self._gpus, self._devices = gpus_of_node(settings.node, settings.simulated_bytes)
        self._kept: dict[str, EngineKeeper] = {}

    async def info(self) -> FleetNode:
        return FleetNode(
            id=self._settings.node,
            address="127.0.0.1",
            host_bytes=self._settings.host_bytes,
            gpus=self._gpus,
            run_dir=str(self._home.engines),
        )

    async def pid(self) -> int:
        return os.getpid()

    async def start(self, order: EngineOrder, gpu: str) -> EngineStatus:
        """Start an engine on ``gpu`` and wait until it is ready. Raises EngineError."""
        by_name = {str(gpu_id): device for gpu_id, device in self._devices.items()}
        order = msgspec.structs.replace(order, device=by_name[gpu])
        connection = await self._order(order)
        keeper = self._kept[order.replica_id] = EngineKeeper(connection)
        try:
            return await keeper.wait_ready()
        except EngineError:
            del self._kept[order.replica_id]
            await keeper.stop()
            raise

    async def _order(self, order: EngineOrder) -> EngineConnection:
        """Hand the order to the launcher, waiting for one that is being restarted."""
        launcher = LauncherClient(str(self._home.launcher_socket))
        deadline = asyncio.get_running_loop().time() + LAUNCHER_WAIT_S
        while True:
            try:
                return await launcher.start(order)
            except OSError as problem:
                if asyncio.get_running_loop().time() > deadline:
                    raise EngineError("the engine launcher of this node is not running") from problem
                await asyncio.sleep(0.1)

    async def hand_over(self, replica_id: str) -> None:
        """The replica actor keeps this engine from now on."""
        keeper = self._kept.pop(replica_id, None)
        if keeper is not None:
            await keeper.release()

    async def end_reason(self, status: EngineStatus) -> str:
        """Why an engine of this node is gone, as its launcher saw it."""
        report = read_exit_report(status.order.control_path)
        if report is None or report.pid != status.pid:
            return f"the engine's process {status.pid} is gone"
        return report.reason()

    async def sleep(self, status: EngineStatus) -> EngineStatus:
        async with self._reach(status) as keeper:
            return await keeper.sleep()

    async def wake(self, status: EngineStatus) -> EngineStatus:
        async with self._reach(status) as keeper:
            return await keeper.wake()

    async def stop(self, status: EngineStatus) -> None:
        """End an engine whoever keeps it; succeeds when it is gone already."""
        try:
            async with self._reach(status) as keeper:
                await keeper.stop()
        except OSError:
            await end_process(status, grace_s=0.0)
        self._kept.pop(status.order.replica_id, None)

    @asynccontextmanager
    async def _reach(self, status: EngineStatus) -> AsyncIterator[EngineKeeper]:
        kept = self._kept.get(status.order.replica_id)
        if kept is not None:
            yield kept
            return
        keeper = EngineKeeper(await EngineConnection.connect(status.order.control_path))
        try:
            yield keeper
        finally:
            await keeper.release()

    async def scan(self) -> tuple[EngineStatus, ...]:
        """Every engine alive on this node, as it speaks of itself."""
        return tuple(await scan(str(self._home.engines)))

    async def stop_all(self) -> int:
        """End every engine of this node; the number ended."""
        found = await self.scan()
        await asyncio.gather(*(self.stop(status) for status in found))
        return len(found)
