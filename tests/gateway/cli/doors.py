"""A head's door for the commands of another machine, in this process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web

from gateway.service.door.register import Register
from gateway.service.door.server import Door
from gateway.service.door.words import Versions, own_versions
from models import secret

SHARED = "5" * 64


@contextmanager
def open_door(
    folder: Path,
    *,
    simulated: bool | None = True,
    own_redis: bool = False,
    versions: Versions | None = None,
    session: str | None = "session_1",
) -> Iterator[int]:
    """Of a cluster with the secret ``SHARED``, whose head goes by the name ``head``; its port."""
    door = Door(
        key=secret.key(SHARED, "door"),
        head="127.0.0.1",
        versions=versions or own_versions(),
        register=Register(folder / "cluster-nodes.json", "head", "127.0.0.1", time.monotonic()),
        session=lambda: session,
        simulated=lambda: simulated,
        own_redis=own_redis,
        url="http://127.0.0.1:8000",
    )
    loop, runner = asyncio.new_event_loop(), web.AppRunner(door.app())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def serve() -> int:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return int(runner.addresses[0][1])

    try:
        yield asyncio.run_coroutine_threadsafe(serve(), loop).result(10)
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
