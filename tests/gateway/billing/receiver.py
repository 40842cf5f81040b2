"""A receiver of webhooks on loopback that answers as a test wants and keeps what it was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Receiver:
    """``says``: statuses, one for each request to come; after them 204."""

    says: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)  # of its answers
    hangs: bool = False
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.got]

    @property
    def bodies(self) -> list[Any]:
        return [msgspec.json.decode(body) for _, body in self.got]

    def has_more_than(self, count: int) -> bool:
        return len(self.got) > count

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.got.append(({name.lower(): value for name, value in request.headers.items()}, body))
        if self.hangs:
            await asyncio.sleep(3600)
        return web.Response(status=self.says.pop(0) if self.says else 204, headers=self.headers)


@asynccontextmanager
async def receiver(**facts: Any) -> AsyncIterator[Receiver]:
    made = Receiver(**facts)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        await runner.cleanup()
