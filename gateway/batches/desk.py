"""Who works batches off: one worker of all, the one with the lease. When it dies, another goes on within seconds."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog
from redis.exceptions import RedisError

from gateway.batches import journal
from gateway.batches.run import BatchGone, Run, Tools
from gateway.batches.store import Named
from gateway.ending import end
from gateway.errors import GatewayError
from models.store.errors import StoreError
from models.store.keys import BATCH_LEASE_S
from models.store.lease import Lease

AT_ONCE = 16
RENEW_S = BATCH_LEASE_S / 4
TRY_S = 2.0
AGAIN_S = 2.0  # after a run failed
SWEEP_S = 60.0
ABANDONED_S = 3600.0
_DOWN = (RedisError, OSError, TimeoutError, StoreError, GatewayError)

log = structlog.get_logger(__name__)


def fair(named: Sequence[Named]) -> list[Named]:
    """Everybody's first batch, then everybody's second: many batches of one are no reason to let another wait."""
    places: dict[str, int] = defaultdict(int)
    ordered = []
    for batch in sorted(named, key=lambda batch: (batch.since_unix_s, batch.id)):
        ordered.append((places[batch.owner], batch.since_unix_s, batch.id, batch))
        places[batch.owner] += 1
    return [batch for *_, batch in sorted(ordered, key=lambda place: place[:3])]


@dataclass(slots=True, eq=False)
class Desk:
    """``run`` until it is cancelled. ``lease``: made on a thread. ``news``: set when a batch came or was cancelled."""

    tools: Tools
    lease: Callable[[], Lease]
    news: asyncio.Event = field(default_factory=asyncio.Event)
    _runs: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _swept_s: float = float("-inf")

    async def run(self) -> None:
        lease: Lease | None = None
        told = False
        try:
            while True:
                try:
                    if lease is None:
                        lease = await asyncio.to_thread(self.lease)
                    if await lease.take():
                        await self._preside(lease)
                    told = False
                except _DOWN as down:
                    if not told:
                        log.warning("batches cannot be worked off", reason=f"{type(down).__name__}: {down}")
                    told = True
                await self._rest(TRY_S)
        finally:
            with contextlib.suppress(*_DOWN):
                if lease is not None:
                    await lease.release()

    async def _preside(self, lease: Lease) -> None:
        """While the lease is ours. Raises what the store fails with once it may have ended."""
        log.info("batches are worked off here")
        loop = asyncio.get_running_loop()
        renewed_s = tried_s = loop.time()
        try:
            while True:
                now_s = loop.time()
                if now_s - tried_s >= RENEW_S:
                    tried_s = now_s
                    try:
                        if not await lease.renew():
                            return
                        renewed_s = now_s
                    except _DOWN:
                        if now_s - renewed_s >= BATCH_LEASE_S - RENEW_S:
                            raise
                await self._attend()
                await self._rest(self.tools.pace.look_s)
        finally:
            await end(self._runs.values())
            self._runs.clear()

    async def _attend(self) -> None:
        try:
            batches = await self.tools.store.open()
            if batches:
                await self.tools.room.look()
            for batch in fair(batches)[:AT_ONCE]:
                if batch.id not in self._runs:
                    self._runs[batch.id] = asyncio.create_task(self._work(batch))
            await self._sweep()
        except _DOWN as down:
            log.warning("batches cannot be looked at", reason=type(down).__name__)

    async def _work(self, batch: Named) -> None:
        tools = replace(self.tools, token=f"{self.tools.token}-{secrets.token_hex(4)}")
        try:
            record = await tools.store.find(batch.owner, batch.id)
            if record is not None:
                ended = await Run(record, tools).work()
                log.info("a batch has ended", batch=batch.id, status=ended.status)
            elif tools.clock.unix() - batch.since_unix_s > ABANDONED_S:
                await tools.store.close(batch.owner, batch.id)
            else:
                await asyncio.sleep(AGAIN_S)  # it is just being created
        except BatchGone:
            await tools.store.close(batch.owner, batch.id)
        except _DOWN as down:
            log.warning("a batch is interrupted", batch=batch.id, reason=f"{type(down).__name__}: {down}")
            await asyncio.sleep(AGAIN_S)
        except Exception:
            log.exception("a batch is interrupted", batch=batch.id)
            await asyncio.sleep(AGAIN_S)
        finally:
            self._runs.pop(batch.id, None)

    async def _sweep(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._swept_s < SWEEP_S:
            return
        self._swept_s = now_s
        removed = await self.tools.cabinet.sweep()
        working = {batch.id for batch in await self.tools.store.open()}
        store = self.tools.store
        for folder in await asyncio.to_thread(lambda: list(store.folders(self.tools.clock.unix() - ABANDONED_S))):
            if folder.name not in working:
                await asyncio.to_thread(journal.remove, folder)
        if removed:
            log.info("files were removed", count=removed)

    async def _rest(self, longest_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self.news.wait()
        self.news.clear()
