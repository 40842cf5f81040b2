"""What the controller hears: from Redis and from the configuration file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from gateway.ending import end
from models.catalog.watch import ConfigWatcher
from models.control.listeners import listen_commands, listen_demand
from models.control.messages import CatalogChanged, CatalogRejected, Message, Ordered, Reported
from models.control.store import RedisControlStore
from models.store.keys import Keys
from models.store.records import Command, CommandReply, DemandReport

pytestmark = pytest.mark.anyio
KEYS = Keys("t")


@pytest.fixture
async def redis(url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(url)
    yield client
    await client.aclose()


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.get_running_loop().create_task(work)
    try:
        yield
    finally:
        await end([task])


async def heard(inbox: list[Message], enough: Callable[[list[Message]], bool]) -> list[Message]:
    async with asyncio.timeout(5):
        while not enough(inbox):
            await asyncio.sleep(0.005)
    return inbox


async def answer(redis: Redis, command: Command) -> CommandReply:
    await redis.rpush(KEYS.commands, msgspec.json.encode(command))
    popped: Any = await redis.blpop([KEYS.reply(command.id)], timeout=5)
    return msgspec.json.decode(popped[1], type=CommandReply)


async def test_a_report_is_read_when_it_is_announced_and_also_when_it_was_not(redis: Redis) -> None:
    inbox: list[Message] = []
    store = RedisControlStore(redis, KEYS)

    def of(worker: str) -> bytes:
        return msgspec.json.encode(DemandReport(worker=worker, routes_version=1, sent_unix_s=1.0))

    async with running(listen_demand(redis, KEYS, store, inbox.append)):
        await redis.set(KEYS.demand("unheard"), of("unheard"))
        workers = {"unheard"}
        await heard(inbox, lambda found: workers <= {m.report.worker for m in found if isinstance(m, Reported)})
        await redis.set(KEYS.demand("announced"), of("announced"))
        await redis.publish(KEYS.demand_channel, "announced")
        workers = {"announced"}
        await heard(inbox, lambda found: workers <= {m.report.worker for m in found if isinstance(m, Reported)})


async def test_commands_reach_the_loop_and_nonsense_does_not_stop_the_listener(redis: Redis, tmp_path: Path) -> None:
    inbox: list[Message] = []
    watcher = ConfigWatcher(tmp_path / "none.yaml")
    async with running(listen_commands(redis, KEYS, RedisControlStore(redis, KEYS), watcher, inbox.append)):
        await redis.rpush(KEYS.commands, b"not json")
        await redis.rpush(KEYS.commands, msgspec.json.encode(Command(id="c", verb="wake", model_id="a")))
        await heard(inbox, lambda found: bool(found))
    assert inbox == [Ordered(Command(id="c", verb="wake", model_id="a"))]


async def test_reload_says_at_once_what_is_wrong_and_what_became_of_it(redis: Redis, tmp_path: Path) -> None:
    inbox: list[Message] = []
    path = tmp_path / "roundhouse.yaml"
    path.write_text("models: [{model_id: one, model_source: x}]")
    watcher = ConfigWatcher(path)
    watcher.poll(0.0)
    async with running(listen_commands(redis, KEYS, RedisControlStore(redis, KEYS), watcher, inbox.append)):
        same = await answer(redis, Command(id="1", verb="reload"))
        path.write_text("models: [{model_id: one, model_source: x, ttl: tenm}]")
        wrong = await answer(redis, Command(id="2", verb="reload"))
        path.write_text("models: [{model_id: one, model_source: x, ttl: 10s}]")
        right = await answer(redis, Command(id="3", verb="reload"))
    assert (same.ok, same.message) == (True, "the configuration means what is in force already")
    assert (wrong.ok, wrong.code) == (False, "invalid_configuration")
    assert "models[0].ttl" in wrong.message
    assert right.ok
    assert [type(message) for message in inbox] == [CatalogRejected, CatalogChanged]
