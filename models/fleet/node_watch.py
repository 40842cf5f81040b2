"""What stands of a node besides that it is there: which of its GPUs are lost, and whether it is about to be taken away.

A fleet learns it as engines' owners learn of an end: it asks, and is answered once the answer is another one than it
knows. What stands is all there is to know, so that nothing is missed where a fleet or a node actor is new.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from models.fleet.gpu_watch import GpuWatch
from models.fleet.reclaim import ReclaimWatch
from packers.types import GpuId

LOOK_EVERY_S = 2.0
PATIENCE_S = 10.0  # a driver that does not answer: what was known stays

log = logging.getLogger("roundhouse.fleet")


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """``lost``: GPU -> why. ``leaving_unix_s``: by when everything should be off it; None: it stays."""

    lost: dict[str, str] = {}
    leaving_unix_s: float | None = None
    leaving_reason: str = ""


class NodeWatch:
    """``clock``: Unix seconds."""

    def __init__(self, gpus: GpuWatch, reclaim: ReclaimWatch, clock: Callable[[], float]) -> None:
        self._gpus = gpus
        self._reclaim = reclaim
        self._clock = clock
        self._facts = NodeFacts()
        self._changed = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._asked: asyncio.Future[dict[GpuId, str]] | None = None  # of the driver, and not answered yet

    @property
    def facts(self) -> NodeFacts:
        """As they were at the last look."""
        return self._facts

    async def other_than(self, known: NodeFacts, within_s: float) -> NodeFacts:
        """The facts, as soon as they differ from ``known``; the same ones after ``within_s``."""
        if self._looking is None:
            await self.look()
        if self._looking is None:  # nobody else has begun meanwhile
            self._looking = asyncio.get_running_loop().create_task(self._keep_looking())
        try:
            async with asyncio.timeout(within_s):
                while self._facts == known:
                    await self._changed.wait()
        except TimeoutError:
            pass
        return self._facts

    async def look(self) -> None:
        """Once. A driver that takes longer than PATIENCE_S holds up nothing else; what was known of its GPUs stays."""
        lost, reclaim = await asyncio.gather(self._lost(), asyncio.to_thread(self._reclaim.look, self._clock()))
        facts = NodeFacts(
            lost=lost,
            leaving_unix_s=None if reclaim is None else reclaim.at_unix_s,
            leaving_reason="" if reclaim is None else reclaim.reason,
        )
        if facts != self._facts:
            self._facts = facts
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    async def _lost(self) -> dict[str, str]:
        """One question at a time, for each takes a thread: a late answer is that of the next look."""
        asked = self._asked
        if asked is None:
            asked = self._asked = asyncio.ensure_future(asyncio.to_thread(self._gpus.look))
        await asyncio.wait((asked,), timeout=PATIENCE_S)
        if not asked.done():
            log.error("the driver has not said for %.0f s how the GPUs are", PATIENCE_S)
            return self._facts.lost
        if self._asked is asked:
            self._asked = None
        return {str(gpu): why for gpu, why in asked.result().items()}

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.look()
            except Exception:  # the edge of a loop
                log.exception("the node could not be looked at; it is tried again")
