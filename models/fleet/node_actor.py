"""One Ray actor per node: knows its GPUs, orders engines from the node's launcher, finds the living ones."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from models.catalog.gpus import SimulatedGpu
from models.fleet import node_memory
from models.fleet.devices import gpus_of_node
from models.fleet.keeper import EngineKeeper, end_process
from models.fleet.protocol import FleetNode, NodeLook, NodeView
from models.home import Home
from models.runtimes.client import EngineConnection, LauncherClient, doing, scan
from models.runtimes.host.exits import read_exit_report
from models.runtimes.protocol import EngineError, EngineOrder, EngineStatus, Fault
from models.weights.errors import WeightsError
from models.weights.node import NodeWeights
from packers.types import NodeId

LAUNCHER_WAIT_S = 120.0
MEASURE_TIMEOUT_S = 5.0


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    node: NodeId
    home: str
    simulated: tuple[SimulatedGpu, ...] | None  # None: the real GPUs
    host_bytes: int


class NodeActor:
    """Keeps engines between their start and the moment the keeper actor has taken over."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._home = Home(Path(settings.home))
        self._gpus, self._devices = gpus_of_node(settings.node, settings.simulated)
        self._kept: dict[str, EngineKeeper] = {}
        self._starting: set[str] = set()
        self._calling: dict[str, asyncio.Lock] = {}  # one call at a time on those kept here
        self._weights = NodeWeights(self._home.weights)
        self._cared_for = False

    async def info(self) -> FleetNode:
        return FleetNode(
            id=self._settings.node,
            address="127.0.0.1",
            host_bytes=self._settings.host_bytes,
            gpus=self._gpus,
            run_dir=str(self._home.engines),
            link_bytes_per_s=max((device.link_bytes_per_s for device in self._devices.values()), default=0.0),
        )

    async def pid(self) -> int:
        return os.getpid()

    async def start(self, order: EngineOrder, gpu: str) -> EngineStatus:
        """Start an engine on ``gpu`` and wait until it is ready. Raises EngineError."""
        by_name = {str(gpu_id): device for gpu_id, device in self._devices.items()}
        order = msgspec.structs.replace(order, device=by_name[gpu])
        self._starting.add(order.replica_id)
        try:
            status = await self._start(await asyncio.to_thread(self._prepare, order, gpu))
        except BaseException:
            await asyncio.to_thread(self._weights.ended, order.replica_id)
            raise
        finally:
            self._starting.discard(order.replica_id)
        await asyncio.to_thread(self._weights.running, order.replica_id, status.pid, order.source)
        return status

    def _prepare(self, order: EngineOrder, gpu: str) -> EngineOrder:
        """The order with its layout folder; what cannot fit is refused, and what is known to be damaged.

        Raises EngineError.
        """
        node_memory.check_room(order, self._settings.node, gpu)
        if not self._cared_for:
            self._cared_for = True
            self._weights.open()
        try:
            layout_dir = self._weights.prepare(order.replica_id, order.source)
        except WeightsError as problem:
            raise EngineError(str(problem), "weights") from problem
        return msgspec.structs.replace(order, layout_dir=layout_dir)

    async def _start(self, order: EngineOrder) -> EngineStatus:
        keeper = EngineKeeper(await self._order(order))
        if order.replica_id not in self._starting:  # abandoned while it waited for the launcher
            await keeper.stop(drain_s=0.0)
            raise EngineError("the engine is wanted no more")
        self._kept[order.replica_id] = keeper
        try:
            return await keeper.wait_ready()
        except EngineError:
            self._kept.pop(order.replica_id, None)
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

    async def abandon(self, replica_id: str) -> None:
        """End an engine that was ordered and is not ready yet: whoever ordered it waits no more."""
        self._starting.discard(replica_id)
        keeper = self._kept.pop(replica_id, None)
        if keeper is not None:
            await keeper.stop(drain_s=0.0)

    async def hand_over(self, replica_id: str) -> None:
        """The keeper actor keeps this engine from now on; what it is being told here it does first."""
        keeper = self._kept.pop(replica_id, None)
        if keeper is not None:
            async with self._calling.setdefault(replica_id, asyncio.Lock()):
                await keeper.release()
            self._calling.pop(replica_id, None)

    async def end_reason(self, status: EngineStatus) -> tuple[str, Fault]:
        """Why an engine of this node is gone, as its keeper ended it or its launcher saw it end."""
        keeper = self._kept.get(status.order.replica_id)
        known = keeper.end() if keeper is not None else None
        if known is not None:
            return str(known), known.fault
        report = read_exit_report(status.order.control_path)
        if report is not None and report.pid == status.pid:
            return report.reason(doing(status.state)), report.fault
        return f"the engine's process {status.pid} is gone", "other"

    async def sleep(self, status: EngineStatus) -> EngineStatus:
        async with self._reach(status) as keeper:
            return await keeper.sleep()

    async def wake(self, status: EngineStatus) -> EngineStatus:
        async with self._reach(status) as keeper:
            return await keeper.wake()

    async def stop(self, status: EngineStatus) -> None:
        """End an engine whoever keeps it, and whatever it is doing; succeeds when it is gone already."""
        replica = status.order.replica_id
        kept = self._kept.get(replica)
        try:
            if kept is not None and kept.status.pid == status.pid:
                await kept.stop()
            else:
                async with self._reach(status) as keeper:
                    await keeper.stop()
        except OSError:
            await end_process(status, grace_s=0.0)
        if self._kept.get(replica) is not kept or (kept is not None and kept.status.pid != status.pid):
            return  # another engine goes by this name now
        self._kept.pop(replica, None)
        self._calling.pop(replica, None)
        await asyncio.to_thread(self._weights.ended, replica)

    @asynccontextmanager
    async def _reach(self, status: EngineStatus) -> AsyncIterator[EngineKeeper]:
        replica = status.order.replica_id
        kept = self._kept.get(replica)
        if kept is not None and kept.status.pid == status.pid:
            async with self._calling.setdefault(replica, asyncio.Lock()):
                yield kept
            return
        connection = await EngineConnection.connect(status.order.control_path)
        if connection.status.pid != status.pid:  # that one is gone; another has come in its place
            await connection.close()
            raise ConnectionResetError("the engine is gone")
        keeper = EngineKeeper(connection)
        try:
            yield keeper
        finally:
            await keeper.release()

    async def look(self, asked: NodeLook) -> NodeView:
        """What the named engines hold now, how full the GPUs are, and where weights are. Engines that do not answer are
        left out."""
        found = await asyncio.gather(*(_measured(path) for path in asked.engines))
        tiers = await asyncio.to_thread(self._weights.tiers, asked.sources)
        used = {} if self._settings.simulated is not None else await asyncio.to_thread(node_memory.used_bytes)
        return NodeView(
            engines=tuple(status for status in found if status is not None),
            tiers=tiers,
            used_bytes={str(gpu): used[device.uuid] for gpu, device in self._devices.items() if device.uuid in used},
        )

    async def scan(self) -> tuple[EngineStatus, ...]:
        """Every engine alive on this node, as it speaks of itself."""
        return tuple(await scan(str(self._home.engines)))

    async def stop_all(self) -> int:
        """End every engine of this node; the number ended."""
        found = await self.scan()
        await asyncio.gather(*(self.stop(status) for status in found))
        return len(found)


async def _measured(control_path: str) -> EngineStatus | None:
    try:
        connection = await EngineConnection.connect(control_path)
    except OSError:
        return None
    try:
        return await connection.call("status", MEASURE_TIMEOUT_S)
    except (EngineError, TimeoutError):
        return None
    finally:
        await connection.close()
