"""A worker asks for the routes before it takes callers, and does not wait for a store that says nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway import sync
from gateway.routing import Routes
from gateway.sync import RouteWatcher, StoreHealth
from gateway.tenancy_reader import TenancyReader
from gateway.tenant_book import TenantBook
from models.store.client import connect_async, unix_url
from models.store.keys import Keys
from tests.gateway.world import SOON_S, World

pytestmark = pytest.mark.anyio


async def looked(url: str, keys: Keys) -> tuple[Routes, StoreHealth]:
    """After the first look."""
    redis, routes, health = connect_async(url), Routes(), StoreHealth()

    async def on_routes() -> None:
        """Nobody else has to know."""

    tenancy = TenancyReader(redis, keys, TenantBook())
    watcher = RouteWatcher(redis, keys, routes, health, on_routes, lambda: None, tenancy)
    running = asyncio.create_task(watcher.run())
    try:
        async with asyncio.timeout(SOON_S):
            await watcher.first_look()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await redis.aclose()
    return routes, health


async def test_the_table_is_there_afterwards(bare_world: World) -> None:
    await bare_world.engine("m-1")
    await bare_world.announce(bare_world.model("m", "m-1"))
    routes, health = await looked(bare_world.redis_url, bare_world.keys)
    assert routes.loaded
    assert routes.find("m") is not None
    assert health.up


async def test_a_store_without_a_table_has_said_so(bare_world: World) -> None:
    routes, health = await looked(bare_world.redis_url, bare_world.keys)
    assert (routes.loaded, health.up) == (False, True)


async def test_a_store_that_is_not_there_is_not_waited_for(sockets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "FIRST_LOOK_S", 3600.0)
    routes, health = await looked(unix_url(sockets / "nobody.sock"), Keys())
    assert (routes.loaded, health.known) == (False, False)


async def test_nor_is_one_that_is_silent(sockets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "FIRST_LOOK_S", 0.05)
    silent = await asyncio.start_unix_server(lambda reader, writer: None, sockets / "silent.sock")
    routes, health = await looked(unix_url(sockets / "silent.sock"), Keys())
    assert (routes.loaded, health.known) == (False, False)
    silent.close()
