"""What the loop has the fleet do. Each action ends by posting one message to the loop's inbox."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from models.catalog.card import ModelCard
from models.catalog.source import SourceError
from models.control.catalog import Entry
from models.control.messages import BecameReady, CouldNotStart, FellAsleep, Lost, Message, Stopped
from models.control.tracked import Tracked
from models.fleet.protocol import Fleet, StartFailed
from models.fleet.tag import Tag
from models.runtimes.protocol import Budget, Device, EngineOrder, EngineStatus
from packers.types import GpuId, ReplicaId

log = logging.getLogger("roundhouse.control")
START_TIMEOUT_S = 300.0
LEASE_S = 60.0
Post = Callable[[Message], None]


class Actions:
    """``check``: a card's folder, checked anew before each start (raises SourceError). ``logs``: for engines."""

    def __init__(self, fleet: Fleet, *, check: Callable[[ModelCard], Awaitable[Path]], logs: Path) -> None:
        self._fleet = fleet
        self._check = check
        self._logs = logs
        self._loading: dict[GpuId, asyncio.Lock] = {}  # loads on one GPU are serialised

    async def start(self, tracked: Tracked, entry: Entry, post: Post) -> None:
        async with self._attempt(tracked.id, post):
            order = self._order(tracked, entry, await self._check(entry.card))
            async with self._lock(tracked.gpu), asyncio.timeout(START_TIMEOUT_S):
                status = await self._fleet.start(tracked.node, order)
            post(BecameReady(tracked.id, status))

    async def wake(self, tracked: Tracked, post: Post) -> None:
        async with self._attempt(tracked.id, post):
            async with self._lock(tracked.gpu), asyncio.timeout(START_TIMEOUT_S):
                status = await self._fleet.wake(tracked.id)
            post(BecameReady(tracked.id, status))

    async def adopt(self, tracked: Tracked, status: EngineStatus, post: Post) -> None:
        """Take over an engine found alive after a restart of the controller."""
        try:
            post(BecameReady(tracked.id, await self._fleet.adopt(tracked.node, status)))
        except StartFailed as problem:
            await self._fleet.stop(tracked.id)
            post(Lost(tracked.id, str(problem)))

    async def sleep(self, tracked: Tracked, post: Post) -> None:
        try:
            post(FellAsleep(tracked.id, await self._fleet.sleep(tracked.id)))
        except StartFailed as problem:
            log.warning("%s could not be put to sleep and is stopped: %s", tracked.id, problem)
            await self.stop(tracked, post)

    async def stop(self, tracked: Tracked, post: Post) -> None:
        await self.end(tracked.id, post)

    async def end(self, replica: ReplicaId, post: Post) -> None:
        await self._fleet.stop(replica)
        post(Stopped(replica))

    @asynccontextmanager
    async def _attempt(self, replica: ReplicaId, post: Post) -> AsyncIterator[None]:
        """Whatever goes wrong: the engine is gone and the loop is told why before its memory counts as free."""
        try:
            yield
            return
        except (StartFailed, SourceError) as problem:
            message = str(problem)
        except TimeoutError:
            message = f"the engine was not ready within {START_TIMEOUT_S:.0f} s"
        except Exception:
            log.exception("starting %s failed", replica)
            message = "an internal error; see the controller's log"
        await self._fleet.stop(replica)
        post(CouldNotStart(replica, message))

    def _lock(self, gpu: GpuId) -> asyncio.Lock:
        return self._loading.setdefault(gpu, asyncio.Lock())

    def _order(self, tracked: Tracked, entry: Entry, folder: Path) -> EngineOrder:
        footprint = tracked.footprint
        return EngineOrder(
            replica_id=tracked.id,
            model_id=tracked.model,
            served_names=(entry.card.model_id, *entry.card.aliases),
            runtime=entry.card.runtime,
            source=str(folder),
            engine_args=dict(entry.card.engine_args),
            device=Device(),  # the node fills in the device of the GPU named in the tag
            budget=Budget(
                weights_bytes=footprint.weights_bytes,
                kv_cache_bytes=footprint.kv_cache_bytes,
                overhead_bytes=footprint.overhead_bytes,
            ),
            http_path=tracked.endpoint.removeprefix("unix:"),
            control_path=tracked.control,
            log_path=str(self._logs / f"{tracked.id}.log"),
            lease_s=LEASE_S,
            tag=Tag(gpu=tracked.gpu, card_hash=tracked.card_hash, footprint=footprint).encode(),
        )
