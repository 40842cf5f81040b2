"""A runtime for fleet tests: loads at once, answers every request, and fails when its source says so.

Of the source "spoilt" only a cold start gives an engine, "wakes-wrong" fails its canary at the first wake.
"""

from __future__ import annotations

import asyncio
from typing import Any

from models.runtimes.protocol import Asgi, Engine, EngineError, EngineOrder, Measured, Runtime

SLOW_S = 3.0


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


class TinyEngine:
    def __init__(self, order: EngineOrder) -> None:
        self._wakes_wrong = order.source == "wakes-wrong" and not order.cold
        self.app: Asgi = _answer
        self.timings_s: dict[str, float] = {}

    async def sleep(self) -> None: ...

    async def wake(self) -> None:
        if self._wakes_wrong:
            raise EngineError("it computes other tokens than it should", "canary")

    def measured(self) -> Measured:
        return Measured(weights_bytes=1, kv_cache_bytes=2, rss_bytes=3)

    def describe(self) -> dict[str, str]:
        return {"path": "tiny"}

    async def watch(self) -> str:
        await asyncio.Event().wait()
        return "never"

    async def close(self) -> None: ...


class TinyRuntime:
    name = "tiny"

    def version(self) -> str:
        return "1"

    def preimport(self) -> None: ...

    def warm(self, scratch: str) -> None: ...

    async def load(self, order: EngineOrder) -> Engine:
        if order.source == "endless":
            await asyncio.Event().wait()
        if order.source == "slow":
            await asyncio.sleep(SLOW_S)
        if order.source == "broken":
            raise EngineError("the weights are not there", "weights")
        if order.source == "spoilt" and not order.cold:
            raise EngineError("it computes other tokens than it should", "canary")
        return TinyEngine(order)


def runtime() -> Runtime:
    return TinyRuntime()
