"""A loaded engine behind its gate: how it arrives on its device, falls asleep, wakes and is wound down."""

from __future__ import annotations

import asyncio
import logging
import time

from models.runtimes.host.gate import Gate
from models.runtimes.protocol import Device, Engine, EngineError

DRAIN_S = 5.0
FLUSH_S = 0.01  # what was said to those who were cut leaves with the next turns of the event loop
# Host memory that weights do not leave while the engine serves: to put it to sleep, nothing crosses the bus.
STAYS_IN_HOST = ("mapped", "packed", "pinned")

log = logging.getLogger("roundhouse.engine")


class LoadedEngine:
    """``timings_s``: its latest ``sleep``, ``wake`` and, where the bus is simulated, ``transfer``."""

    def __init__(self, engine: Engine, device: Device) -> None:
        self.engine = engine
        self.gate = Gate(engine.app)
        self.timings_s: dict[str, float] = {}
        self._device = device
        self._stopping = False

    async def arrive(self) -> None:
        """Let as much time pass as its weights would take to their device, where that is simulated with its bus."""
        await self._transfer(self._weights_bytes())

    async def sleep(self, drain_s: float) -> int:
        """How many requests were cut after ``drain_s``. Raises EngineError; it serves on then."""
        self._refuse_when_stopping()
        self.gate.shut("engine_asleep", "The engine is asleep.")
        cut = await self._drain(drain_s, "The engine was put to sleep before this answer was finished.")
        began_s = time.monotonic()
        try:
            stays = self.engine.describe().get("weights", "").startswith(STAYS_IN_HOST)
            moved_bytes = 0 if stays else self._weights_bytes()
            await self.engine.sleep()
        except EngineError:
            if not self._stopping:
                self.gate.open()
            raise
        await self._transfer(moved_bytes)
        self.timings_s["sleep"] = time.monotonic() - began_s
        return cut

    async def wake(self) -> None:
        """Raises EngineError; it is as much asleep as before then."""
        self._refuse_when_stopping()
        began_s = time.monotonic()
        await self.engine.wake()
        await self._transfer(self._weights_bytes())
        self.timings_s["wake"] = time.monotonic() - began_s
        if not self._stopping:
            self.gate.open()

    async def wind_down(self, drain_s: float) -> int:
        """Take nothing new, let what is in flight end, and cut the rest after ``drain_s``; how many that were.

        May be called again while it waits, with less patience.
        """
        self._stopping = True
        self.gate.shut("engine_stopping", "The engine is stopping.")
        return await self._drain(drain_s, "The engine was stopped before this answer was finished.")

    async def cut(self, why: str) -> int:
        """End everything that is in flight now."""
        cut = await self.gate.cut("engine_stopped", why)
        if cut:
            log.warning("%d requests were cut", cut)
            await asyncio.sleep(FLUSH_S)
        return cut

    async def _drain(self, drain_s: float, why: str) -> int:
        try:
            async with asyncio.timeout(drain_s):
                await self.gate.drained()
            return 0
        except TimeoutError:
            return await self.cut(why)

    def _weights_bytes(self) -> int:
        """What would cross the bus; not worth asking the kernel for where there is none."""
        return self.engine.measured().weights_bytes if self._has_bus else 0

    async def _transfer(self, size_bytes: int) -> None:
        if self._has_bus:
            self.timings_s["transfer"] = size_bytes / self._device.link_bytes_per_s
            await asyncio.sleep(self.timings_s["transfer"])

    @property
    def _has_bus(self) -> bool:
        return self._device.simulated and self._device.link_bytes_per_s > 0

    def _refuse_when_stopping(self) -> None:
        if self._stopping:
            raise EngineError("the engine is stopping")
