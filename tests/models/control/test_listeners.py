"""What the controller hears: from Redis and from the configuration file."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
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
from models.store.client import connect_async
from models.store.embedded import EmbeddedRedis
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
        await redis.publish(KEYS.demand_channel, b"no report")
        await redis.publish(KEYS.demand_channel, of("announced"))
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


async def test_an_order_outlives_the_controller_that_took_it(redis: Redis, tmp_path: Path) -> None:
    """It was popped, and nothing else was done for it yet."""
    watcher, inbox = ConfigWatcher(tmp_path / "none.yaml"), list[Message]()
    order = Command(id="c", verb="stop", model_id="a", wait=True)
    async with running(listen_commands(redis, KEYS, RedisControlStore(redis, KEYS), watcher, inbox.append)):
        await redis.rpush(KEYS.commands, msgspec.json.encode(order))
        await heard(inbox, lambda found: bool(found))
    successor, inbox = RedisControlStore(redis, KEYS), list[Message]()
    async with running(listen_commands(redis, KEYS, successor, watcher, inbox.append)):
        await heard(inbox, lambda found: bool(found))
        await successor.reply(CommandReply(id="c", ok=True, message="a is stopped"))
    assert inbox == [Ordered(order)]
    inbox = []
    third = RedisControlStore(redis, KEYS)
    async with running(listen_commands(redis, KEYS, third, watcher, inbox.append)):
        await redis.rpush(KEYS.commands, msgspec.json.encode(Command(id="d", verb="wake", model_id="a")))
        await heard(inbox, lambda found: bool(found))
    assert [message.command.id for message in inbox if isinstance(message, Ordered)] == ["d"], "c was answered"


async def test_a_reload_that_could_not_be_answered_is_answered_once_that_is_possible(
    redis: Redis, tmp_path: Path
) -> None:
    """Redis was emptied: until the loop has written again, nobody may write."""
    watcher, store = ConfigWatcher(tmp_path / "none.yaml"), RedisControlStore(redis, KEYS)
    await store.fence.take()
    await redis.delete(KEYS.controller_epoch)
    async with running(listen_commands(redis, KEYS, store, watcher, lambda message: None)):
        await redis.rpush(KEYS.commands, msgspec.json.encode(Command(id="r", verb="reload")))
        while not await redis.exists(KEYS.commands_taken):
            await asyncio.sleep(0.01)
        await store.fence.restore()
        popped: Any = await redis.blpop([KEYS.reply("r")], timeout=5)
    assert msgspec.json.decode(popped[1], type=CommandReply).code == "invalid_configuration"


@pytest.mark.parametrize("how", ["killed", "silent"])
async def test_redis_goes_and_comes_and_both_are_heard_again(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "roundhouse.control")
    with EmbeddedRedis() as server:
        redis, inbox = connect_async(server.url), list[Message]()
        store, watcher = RedisControlStore(redis, KEYS), ConfigWatcher(tmp_path / "none.yaml")
        demand = listen_demand(redis, KEYS, store, inbox.append)
        async with running(demand), running(listen_commands(redis, KEYS, store, watcher, inbox.append)):
            await say(redis, "1")
            await heard(inbox, lambda found: len({type(message) for message in found}) == 2)
            assert server.pid is not None
            if how == "killed":
                await asyncio.to_thread(server.kill)
            else:
                os.kill(server.pid, signal.SIGSTOP)
            async with asyncio.timeout(15):
                while sum("cannot be read" in record.getMessage() for record in caplog.records) < 2:
                    await asyncio.sleep(0.02)
            inbox.clear()
            if how == "killed":
                await asyncio.to_thread(server.start)
            else:
                os.kill(server.pid, signal.SIGCONT)
            await say(redis, "2")
            async with asyncio.timeout(15):
                while len({type(message) for message in inbox}) < 2:
                    await asyncio.sleep(0.02)
        await redis.aclose()
    told = [record.getMessage() for record in caplog.records]
    assert sum("can be read again" in text for text in told) == 2
    assert sum("cannot be read" in text for text in told) < 6, "what goes on is not told again and again"


async def say(redis: Redis, number: str) -> None:
    """A worker reports, and an operator gives an order."""
    report = DemandReport(worker=f"w{number}", routes_version=1, sent_unix_s=1.0)
    await redis.set(KEYS.demand(f"w{number}"), msgspec.json.encode(report))
    await redis.publish(KEYS.demand_channel, msgspec.json.encode(report))
    await redis.rpush(KEYS.commands, msgspec.json.encode(Command(id=number, verb="wake", model_id="a")))
