"""A runtime for fleet tests: loads at once, answers every request, and fails when its source says so."""

from __future__ import annotations

import asyncio

from models.runtimes.protocol import Engine, EngineError, EngineOrder, Measured, Runtime


class TinyEngine:
    timings_s: dict[str, float] = {}  # noqa: RUF012
    async def app(self, scope: dict, receive: object, send) -> None:  # type: ignore[no-untyped-def,type-arg]
        if scope["type"] == "lifespan":
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def sleep(self) -> None: ...

    async def wake(self) -> None: ...

    def measured(self) -> Measured:
        return Measured(weights_bytes=1, kv_cache_bytes=2, rss_bytes=3)

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
        if order.source == "broken":
            raise EngineError("the weights are not there")
        return TinyEngine()


def runtime() -> Runtime:
    return TinyRuntime()
