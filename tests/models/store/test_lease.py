"""One of many does it; when that one dies, another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from models.store.client import connect_async
from models.store.lease import Lease

pytestmark = pytest.mark.anyio


@pytest.fixture
async def redis(url: str) -> AsyncIterator[Redis]:
    client = connect_async(url)
    yield client
    await client.aclose()


async def test_one_has_it_at_a_time(redis: Redis) -> None:
    leases = [Lease(redis, "lease", str(number), 60) for number in range(10)]
    taken = await asyncio.gather(*(lease.take() for lease in leases))
    assert taken.count(True) == 1
    holder = leases[taken.index(True)]
    assert await holder.renew()
    assert await holder.take(), "whoever has it may take it again"
    assert not any([await lease.renew() for lease in leases if lease is not holder])


async def test_it_is_free_once_it_is_given_back(redis: Redis) -> None:
    one, other = Lease(redis, "lease", "one", 60), Lease(redis, "lease", "other", 60)
    assert await one.take()
    await other.release()
    assert not await other.take(), "nobody can give back what another has"
    await one.release()
    assert await other.take()
    assert not await one.renew()


async def test_it_ends_by_itself(redis: Redis) -> None:
    one, other = Lease(redis, "lease", "one", 0.05), Lease(redis, "lease", "other", 60)
    assert await one.take()
    async with asyncio.timeout(10):
        while not await other.take():
            await asyncio.sleep(0.01)
    assert not await one.renew()
