"""Redis goes away and comes back: what serves goes on serving."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.auth import INFERENCE, LOOKUP_TIMEOUT_S, Authenticator
from gateway.clock import Clock
from gateway.redis_keys import RedisKeyStore
from gateway.tenancy_reader import TenancyReader
from gateway.tenant_book import TenantBook
from models.store.client import connect_async
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from tests.gateway.world import World, until_async

pytestmark = pytest.mark.anyio


@pytest.fixture
async def own(sockets: Path, keys: Keys) -> AsyncIterator[tuple[World, EmbeddedRedis]]:
    """A world with a server of its own, to be stopped by the test."""
    with EmbeddedRedis() as server:
        redis = connect_async(server.url)
        world = World(redis, server.url, keys, sockets)
        try:
            await world.start()
            await world.engine("m-1")
            await world.route(world.model("m", "m-1"))
            yield world, server
        finally:
            if server.pid is not None:
                os.kill(server.pid, signal.SIGCONT)
            await world.stop()
            await redis.aclose()


async def ready(world: World) -> Any:
    async with world.client() as session, session.get("/readyz") as answer:
        return answer.status, await answer.json()


async def test_with_redis_dead_known_keys_are_served_and_unknown_ones_told_to_come_again(
    own: tuple[World, EmbeddedRedis],
) -> None:
    world, server = own
    async with world.client() as session:
        assert (await world.chat(session, "m"))[0] == 200
        await asyncio.to_thread(server.kill)
        for _ in range(20):
            assert (await world.chat(session, "m"))[0] == 200
        status, headers, body = await world.chat(session, "m", headers={"authorization": "Bearer rh-never-seen"})
        assert (status, body["error"]["code"]) == (503, "store_unavailable")
        assert headers["retry-after"]

        async def known_down() -> bool:
            return bool((await ready(world))[1]["redis"] == "down")

        await until_async(known_down)
        assert (await ready(world))[0] == 200, "what it knows is enough to serve"
        async with session.get("/admin/v1/gpus", headers=world.admin_headers) as answer:
            assert answer.status == 503


async def test_when_redis_comes_back_news_are_heard_and_demand_is_told(own: tuple[World, EmbeddedRedis]) -> None:
    world, server = own
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    await world.engine("m-2")
    version = await world.route(world.model("m", "m-2"))
    report = await world.report()
    assert report is not None
    assert report.routes_version >= version
    async with world.client() as session:
        assert (await world.chat(session, "m"))[0] == 200
    assert len(world.engines["m-2"].seen) == 1


async def test_a_silent_redis_does_not_hang_requests(own: tuple[World, EmbeddedRedis]) -> None:
    """Stopped, not dead: connections stand and nothing answers."""
    world, server = own
    async with world.client() as session:
        assert (await world.chat(session, "m"))[0] == 200
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        async with asyncio.timeout(10):
            for _ in range(20):
                assert (await world.chat(session, "m"))[0] == 200
            status, _, _ = await world.chat(session, "m", headers={"authorization": "Bearer rh-never-seen"})
        assert status == 503
        os.kill(server.pid, signal.SIGCONT)
        await world.route(world.model("m", "m-1"), world.model("n"))


async def test_when_this_process_stood_still_redis_is_not_blamed(bare_world: World) -> None:
    """The deadline passes while nothing of ours runs; the answer has long been there and only needs to be read.

    The loop stands still at each point of a lookup in turn.
    """
    world = bare_world
    for steps in range(12):
        key = await world.make_key(f"key {steps}", INFERENCE)
        authenticator = Authenticator(
            RedisKeyStore(world.redis, world.keys, TenancyReader(world.redis, world.keys, TenantBook())), Clock()
        )
        knocking = asyncio.ensure_future(authenticator.authenticate([(b"x-api-key", key.encode())], INFERENCE))
        for _ in range(steps):
            await asyncio.sleep(0)
        time.sleep(LOOKUP_TIMEOUT_S + 0.05)  # noqa: ASYNC251 - standing still is what this is about
        assert (await knocking).name == f"key {steps}"
