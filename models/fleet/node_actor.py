"""One Ray actor per node: knows its GPUs, orders engines from the node's launcher, finds the living ones."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from models.fleet import gpu_watch, node_memory
from models.fleet.fence import Fence
from models.fleet.keeper import EngineKeeper, end_process
from models.fleet.node_keys import engines_key_file
from models.fleet.node_place import NodePlace, NodeSettings
from models.fleet.node_watch import NodeFacts, NodeWatch
from models.fleet.protocol import FleetNode, NodeLook, NodeView
from models.fleet.reclaim import ReclaimWatch
from models.fleet.supply import Ask, supply_of
from models.runtimes.client import EngineConnection, LauncherClient, doing, scan
from models.runtimes.host.exits import read_exit_report
from models.runtimes.protocol import EngineError, EngineOrder, EngineStatus, Fault
from models.weights.errors import WeightsError
from models.weights.node import NodeWeights

LAUNCHER_WAIT_S = 120.0
MEASURE_TIMEOUT_S = 5.0
REPORT_WAIT_S = 1.0
REPORT_POLL_S = 0.01


class Greeting(msgspec.Struct, frozen=True, kw_only=True):
    """What a fleet that meets a node has to know of it."""

    node: FleetNode
    facts: NodeFacts
    engines: tuple[EngineStatus, ...]


class NodeActor:
    """Keeps engines between their start and the moment the keeper actor has taken over.

    Whatever changes something is told by which controller (``epoch``), and raises Superseded once a later one was
    heard. Calls may be repeated, since their answers get lost with a connection: a second ``start`` of the same replica
    waits for the first, or takes over the engine that has come of it.
    """

    def __init__(self, settings: NodeSettings) -> None:
        """Raises UnusableNode, BadNotice."""
        self._place = place = NodePlace.find(settings)
        self._home = place.home
        self._fence = Fence(self._home.fence)
        self._devices = {str(gpu): device for gpu, device in place.devices.items()}
        self._kept: dict[str, EngineKeeper] = {}
        self._starts: dict[str, asyncio.Task[EngineStatus]] = {}
        self._calling: dict[str, asyncio.Lock] = {}  # one call at a time on those kept here
        self._weights = NodeWeights(self._home.weights)
        self._supply = supply_of(place, self._weights.store)
        self._cared_for = False
        gpus = gpu_watch.GpuWatch(place.devices, self._home.lost_gpus, gpu_watch.driver(place.devices))
        self._watch = NodeWatch(gpus, ReclaimWatch(self._home.reclaim_notice, place.file.notice), time.time)

    async def greet(self, epoch: int) -> Greeting:
        """Meet the controller of this epoch, and obey it if no later one was heard."""
        self._fence.claim(epoch)
        facts, engines = await asyncio.gather(self._watch.other_than(NodeFacts(), 0.0), self.scan())
        return Greeting(node=self._place.shown(), facts=facts, engines=engines)

    async def claim(self, epoch: int) -> int:
        """Obey the controller of this epoch from now on, if it is a later one; the highest epoch before."""
        return self._fence.claim(epoch)

    async def facts(self, known: NodeFacts, within_s: float) -> NodeFacts:
        """What stands of this node, as soon as it is not what is ``known``, or after ``within_s``."""
        return await self._watch.other_than(known, within_s)

    async def pid(self) -> int:
        return os.getpid()

    async def start(self, epoch: int, order: EngineOrder, gpu: str) -> EngineStatus:
        """Start an engine on ``gpu`` and wait until it is ready. Raises EngineError."""
        self._fence.obey(epoch)
        replica = order.replica_id
        starting = self._starts.get(replica)
        if starting is None:
            starting = self._starts[replica] = asyncio.get_running_loop().create_task(self._bring_up(order, gpu))
            starting.add_done_callback(lambda task: self._started(replica, task))
        # A caller that is cut off, or loses patience, ends nothing: ``abandon`` does.
        return await asyncio.shield(starting)

    def _started(self, replica: str, task: asyncio.Task[EngineStatus]) -> None:
        if self._starts.get(replica) is task:
            del self._starts[replica]
        if not task.cancelled():
            task.exception()  # whoever asked may be gone

    async def _bring_up(self, order: EngineOrder, gpu: str) -> EngineStatus:
        order = msgspec.structs.replace(
            order,
            device=self._devices[gpu],
            log_path=str(self._home.engine_logs / Path(order.log_path).name),  # the controller has a home of its own
        )
        try:
            living = await self._living(order)
            if living is None:
                living = EngineKeeper(await self._order(await asyncio.to_thread(self._prepare, order, gpu)))
            status = await self._until_ready(living)
        except BaseException:
            await asyncio.to_thread(self._weights.ended, order.replica_id)
            raise
        await asyncio.to_thread(self._weights.running, order.replica_id, status.pid, order.source)
        return status

    async def _living(self, order: EngineOrder) -> EngineKeeper | None:
        """The engine that an earlier call has started: the answer to that got lost, or this actor was started anew."""
        kept = self._kept.get(order.replica_id)
        if kept is not None and kept.end() is None:
            return kept
        if not Path(order.control_path).exists():
            return None
        try:
            connection = await EngineConnection.connect(order.control_path)
        except OSError:
            return None
        if connection.status.order.replica_id == order.replica_id and connection.status.state != "failed":
            return EngineKeeper(connection)
        await connection.close()
        return None

    def _prepare(self, order: EngineOrder, gpu: str) -> EngineOrder:
        """The order with its layout folder and, where other nodes are to reach it, its address; what cannot fit is
        refused, and what is known to be damaged.

        Raises EngineError.
        """
        lost = self._watch.facts.lost.get(gpu)
        if lost is not None:
            raise EngineError(f"{gpu} is lost: {lost}", "memory")
        node_memory.check_room(order, self._place.name, gpu)
        if not self._cared_for:
            self._cared_for = True
            self._weights.open()
        try:
            layout_dir = self._weights.prepare(order.replica_id, order.source)
        except WeightsError as problem:
            raise EngineError(str(problem), "weights") from problem
        order = msgspec.structs.replace(order, layout_dir=layout_dir)
        if self._place.file.alone:
            return order
        key_path = engines_key_file(self._home)
        return msgspec.structs.replace(order, tcp_host=self._place.file.address, tcp_key_path=str(key_path))

    async def _until_ready(self, keeper: EngineKeeper) -> EngineStatus:
        replica = keeper.status.order.replica_id
        if self._starts.get(replica) is not asyncio.current_task():  # abandoned while it waited for the launcher
            await keeper.stop(drain_s=0.0)
            raise EngineError("the engine is wanted no more")
        self._kept[replica] = keeper
        try:
            return await keeper.wait_ready()
        except EngineError:
            self._kept.pop(replica, None)
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

    async def abandon(self, epoch: int, order: EngineOrder) -> None:
        """End an engine that was ordered and is not ready yet: whoever ordered it waits no more."""
        self._fence.obey(epoch)
        self._starts.pop(order.replica_id, None)
        keeper = await self._living(order)
        self._kept.pop(order.replica_id, None)
        if keeper is not None:
            await keeper.stop(drain_s=0.0)

    async def hand_over(self, epoch: int, replica_id: str) -> None:
        """The keeper actor keeps this engine from now on; what it is being told here it does first."""
        self._fence.obey(epoch)
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
        waited_s = 0.0
        while True:
            report = read_exit_report(status.order.control_path)
            if report is not None and report.pid == status.pid:
                return report.reason(doing(status.state)), report.fault
            if waited_s >= REPORT_WAIT_S:
                return f"the engine's process {status.pid} is gone", "other"
            await asyncio.sleep(REPORT_POLL_S)  # its launcher may be busy
            waited_s += REPORT_POLL_S

    async def sleep(self, epoch: int, status: EngineStatus) -> EngineStatus:
        self._fence.obey(epoch)
        async with self._reach(status) as keeper:
            return await keeper.sleep()

    async def wake(self, epoch: int, status: EngineStatus) -> EngineStatus:
        self._fence.obey(epoch)
        async with self._reach(status) as keeper:
            return await keeper.wake()

    async def stop(self, epoch: int, status: EngineStatus) -> None:
        """End an engine whoever keeps it, and whatever it is doing; succeeds when it is gone already."""
        self._fence.obey(epoch)
        await self._stop(status)

    async def _stop(self, status: EngineStatus) -> None:
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
        used = {} if self._place.simulated else await asyncio.to_thread(node_memory.used_bytes)
        return NodeView(
            engines=tuple(status for status in found if status is not None),
            tiers={**tiers},
            used_bytes={gpu: used[device.uuid] for gpu, device in self._devices.items() if device.uuid in used},
        )

    async def scan(self) -> tuple[EngineStatus, ...]:
        """Every engine alive on this node, as it speaks of itself."""
        return tuple(await scan(str(self._home.engines)))

    async def weights(self, ask: Ask) -> Any:
        """Raises EngineError."""
        return await self._supply.answer(ask)

    async def stop_all(self, epoch: int) -> int:
        """End every engine of this node; the number ended."""
        self._fence.obey(epoch)
        found = await self.scan()
        await asyncio.gather(*(self._stop(status) for status in found))
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
