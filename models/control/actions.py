"""What the loop has the fleet do. Each action ends by posting one message to the loop's inbox."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from models.catalog.card import ModelCard
from models.catalog.source import SourceError
from models.control.catalog import Entry
from models.control.content import Source
from models.control.messages import BecameReady, CouldNotStart, FellAsleep, Lost, Message, Quarantined, Stopped
from models.control.tracked import Tracked
from models.fleet.protocol import Fleet, FleetNode, NodeJoined, StartFailed, Superseded
from models.fleet.tag import Tag
from models.runtimes.protocol import Budget, Device, EngineOrder, EngineStatus, Fault
from packers.types import GpuId, NodeId, ReplicaId, ReplicaState

log = logging.getLogger("roundhouse.control")
START_TIMEOUT_S = 300.0
NOT_READY = f"the engine was not ready within {START_TIMEOUT_S:.0f} s"
LEASE_S = 60.0
AGAIN_S = 1.0
FIND_TRIES = 60
Post = Callable[[Message], None]


@dataclass(slots=True)
class _Attempt:
    """``content``: what the source held when an engine was started from it."""

    content: str | None = None


class Actions:
    """``check``: a card's source on the node that will run it, looked at anew before each start and brought there
    where it is not (raises SourceError, StartFailed). ``logs``: for engines.

    ``clock``: the loop's.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        check: Callable[[ModelCard, NodeId], Awaitable[Source]],
        logs: Path,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._fleet = fleet
        self._check = check
        self._logs = logs
        self._clock = clock
        self._loading: dict[GpuId, asyncio.Lock] = {}  # loads on one GPU are serialised, their canaries included

    async def weights(self, node: NodeId, ask: Any) -> Any:
        """Ask a node about weights (``models.fleet.supply``). Raises StartFailed."""
        return await self._fleet.weights(node, ask)

    async def start(self, tracked: Tracked, entry: Entry, post: Post) -> None:
        async with self._attempt(tracked.id, post) as attempt:
            order = await self._look_at_source(tracked, entry, attempt)
            try:
                status, queued_s = await self._load(tracked, lambda: self._fleet.start(tracked.node, order))
            except StartFailed as problem:
                if problem.fault != "canary" or order.cold:
                    raise
                status, queued_s = await self._start_cold(tracked, order, problem, post)
            post(BecameReady(tracked.id, status, queued_s))

    async def wake(self, tracked: Tracked, entry: Entry, post: Post) -> None:
        async with self._attempt(tracked.id, post) as attempt:
            try:
                status, queued_s = await self._load(tracked, lambda: self._fleet.wake(tracked.id))
            except StartFailed as problem:
                if problem.fault != "canary":
                    raise
                order = await self._look_at_source(tracked, entry, attempt)
                status, queued_s = await self._start_cold(tracked, order, problem, post)
            post(BecameReady(tracked.id, status, queued_s))

    async def _look_at_source(self, tracked: Tracked, entry: Entry, attempt: _Attempt) -> EngineOrder:
        source = await self._check(entry.card, tracked.node)
        attempt.content = source.content
        return self._order(tracked, entry, source)

    async def _start_cold(
        self, tracked: Tracked, order: EngineOrder, problem: StartFailed, post: Post
    ) -> tuple[EngineStatus, float]:
        """In the same place, once: whoever computes other tokens from the source itself has failed."""
        await self._stop(tracked.id)
        post(Quarantined(tracked.id, str(problem)))
        cold = msgspec.structs.replace(order, cold=True)
        return await self._load(tracked, lambda: self._fleet.start(tracked.node, cold))

    async def _load(self, tracked: Tracked, load: Callable[[], Awaitable[EngineStatus]]) -> tuple[EngineStatus, float]:
        """The engine once it is ready, and how long it waited for its turn. One that was given up meanwhile does not
        begin, nor does it stay."""
        queued_since_s = self._clock()
        async with self._lock(tracked.gpu):
            queued_s = self._clock() - queued_since_s
            _check_wanted(tracked)
            async with asyncio.timeout(START_TIMEOUT_S):
                status = await load()
            _check_wanted(tracked)
            return status, queued_s

    async def adopt(self, tracked: Tracked, status: EngineStatus, post: Post) -> None:
        """Take over an engine found alive after a restart of the controller; one that is loading keeps its turn."""
        try:
            if status.state == "loading":
                status, _ = await self._load(tracked, lambda: self._fleet.adopt(tracked.node, status))
            else:
                status = await self._fleet.adopt(tracked.node, status)
            post(BecameReady(tracked.id, status))
        except (StartFailed, TimeoutError) as problem:
            fault = problem.fault if isinstance(problem, StartFailed) else "hang"
            await self._stop(tracked.id)
            post(Lost(tracked.id, str(problem) or NOT_READY, fault))

    async def sleep(self, tracked: Tracked, post: Post) -> None:
        try:
            post(FellAsleep(tracked.id, await self._fleet.sleep(tracked.id)))
        except StartFailed as problem:
            log.warning("%s could not be put to sleep and is stopped: %s", tracked.id, problem)
            await self.stop(tracked, post)

    async def stop(self, tracked: Tracked, post: Post) -> None:
        await self.end(tracked.id, post)

    async def end(self, replica: ReplicaId, post: Post) -> None:
        await self._stop(replica)
        post(Stopped(replica))

    async def find(self, node: FleetNode, post: Post) -> None:
        """Ask a node that was silent when everybody was asked, until it says what runs there; not for ever, for the
        fleet will tell when it is back or lost."""
        for _ in range(FIND_TRIES):
            found = await self._fleet.observe()
            if node.id in found:
                return post(NodeJoined(node=node, engines=found[node.id]))
            await asyncio.sleep(AGAIN_S)

    async def _stop(self, replica: ReplicaId) -> None:
        """Until it is gone, or its node is given up: its memory must not count as free before."""
        while True:
            try:
                return await self._fleet.stop(replica)
            except StartFailed as problem:
                log.warning("%s could not be ended, which is tried again: %s", replica, problem)
                await asyncio.sleep(AGAIN_S)

    @asynccontextmanager
    async def _attempt(self, replica: ReplicaId, post: Post) -> AsyncIterator[_Attempt]:
        """Whatever goes wrong: the engine is gone and the loop is told why before its memory counts as free."""
        attempt = _Attempt()
        fault: Fault = "other"
        try:
            yield attempt
            return
        except StartFailed as problem:
            message, fault = str(problem), problem.fault
        except SourceError as problem:
            message, fault, attempt.content = str(problem), "weights", None  # looking again costs nothing
        except TimeoutError:
            message, fault = NOT_READY, "hang"
        except Superseded:  # whatever runs is the later controller's to see to
            raise
        except Exception:
            log.exception("starting %s failed", replica)
            message = "an internal error; see the controller's log"
        await self._stop(replica)
        post(CouldNotStart(replica, message, fault, attempt.content))

    def _lock(self, gpu: GpuId) -> asyncio.Lock:
        return self._loading.setdefault(gpu, asyncio.Lock())

    def _order(self, tracked: Tracked, entry: Entry, source: Source) -> EngineOrder:
        footprint = tracked.footprint
        return EngineOrder(
            replica_id=tracked.id,
            model_id=tracked.model,
            served_names=(entry.card.model_id, *entry.card.aliases),
            runtime=entry.card.runtime,
            source=str(source.folder),
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
            cold=tracked.cold,
            repack=entry.card.repack,
            adapters=source.adapters,
            tag=Tag(gpu=tracked.gpu, card_hash=tracked.card_hash, footprint=footprint).encode(),
        )


def _check_wanted(tracked: Tracked) -> None:
    """Raises StartFailed."""
    if tracked.state is not ReplicaState.STARTING:
        raise StartFailed(f"{tracked.id} was given up before it was ready")
