"""Killed while it tells somebody, and Redis gone for a while: everything gets there, under the id it had before."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.billing.deliveries import Deliveries
from models.store.alerts import Alert, Kind, tell
from models.store.client import connect_async
from models.store.codec import encode
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from models.store.tenancy import HouseRecord, Webhook
from tests.gateway.billing.receiver import SECRET, Receiver, receiver
from tests.gateway.world import until, until_async

pytestmark = pytest.mark.anyio
REPO = Path(__file__).resolve().parents[3]


@pytest.fixture
async def redis(redis_server: EmbeddedRedis) -> AsyncIterator[Redis]:
    client = connect_async(redis_server.url)
    yield client
    await client.aclose()


@contextmanager
def running(url: str, keys: Keys) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.gateway.billing.webhooks_process", url, keys.prefix]
    process = subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def hook(redis: Redis, keys: Keys, there: Receiver) -> None:
    rules = HouseRecord(webhooks=(Webhook(url=there.url, secret=SECRET, allow_private=True),))
    await redis.set(keys.house, encode(rules))


async def alerts(redis: Redis, keys: Keys, count: int) -> None:
    for number in range(count):
        await tell(redis, keys, Alert(kind=Kind.METER_BEHIND, at=number, text=str(number)))


async def test_killed_in_the_middle_of_telling(redis_server: EmbeddedRedis, redis: Redis, keys: Keys) -> None:
    async with receiver(hangs=True) as there:
        await hook(redis, keys, there)
        await alerts(redis, keys, 5)
        with running(redis_server.url, keys):
            await until(lambda: there.got)  # and it waits for the answer
        there.hangs = False
        first = there.ids[0]
        with running(redis_server.url, keys):
            await until(lambda: len(set(there.ids)) == 5)
            deliveries = Deliveries(redis, keys)

            async def all_done() -> bool:
                return (await deliveries.figures())[0] == 0

            await until_async(all_done)
        assert there.ids.count(first) == 2, "told again, under its id"
        assert sorted({body["data"]["text"] for body in there.bodies}) == list("01234")
        assert (await deliveries.figures())[1] == {"delivered": 5}


async def test_killed_again_and_again(redis_server: EmbeddedRedis, redis: Redis, keys: Keys) -> None:
    async with receiver() as there:
        await hook(redis, keys, there)
        for _ in range(4):
            await alerts(redis, keys, 10)
            seen = len(there.got)
            with running(redis_server.url, keys):
                await until(partial(there.has_more_than, seen))
        with running(redis_server.url, keys):
            await until(lambda: len(set(there.ids)) == 40)


async def test_a_store_that_is_away_is_waited_for(keys: Keys) -> None:
    with EmbeddedRedis() as server:
        client = connect_async(server.url)
        async with receiver() as there:
            await hook(client, keys, there)
            with running(server.url, keys):
                await alerts(client, keys, 1)
                await until(lambda: len(there.got) == 1)
                await client.execute_command("CLIENT", "PAUSE", "1500", "ALL")
                await asyncio.wait_for(alerts(client, keys, 1), 30)
                await until(lambda: len(set(there.ids)) == 2)
        await client.aclose()
