"""Word of a key that cools down: once an hour from all workers together, and no harm where it cannot be given."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from gateway.abuse import notices
from gateway.abuse.notices import Notices
from gateway.clock import Clock
from models.store.alerts import FIELD, Alert, Kind
from models.store.client import connect_async
from models.store.codec import decode
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from tests.gateway.world import until

pytestmark = pytest.mark.anyio


async def told(redis: Redis, keys: Keys) -> list[Alert]:
    found: Any = await redis.xrange(keys.alerts)
    return [decode(fields[FIELD.encode()], Alert, "a") for _, fields in found]


async def done(each: Notices) -> None:
    await until(lambda: not each._telling)


async def test_workers_that_see_the_same_tell_it_once(redis_server: EmbeddedRedis, keys: Keys) -> None:
    redis = connect_async(redis_server.url)
    try:
        workers = [Notices(redis, keys, Clock()) for _ in range(3)]
        for _ in range(2):
            for worker in workers:
                worker.key_cooled("key_1", "acme", 30.0)
            workers[0].key_cooled("key_2", "other", 30.0)
            for worker in workers:
                await done(worker)
        alerts = await told(redis, keys)
        assert sorted((alert.kind, alert.place, alert.tenant) for alert in alerts) == [
            (Kind.KEY_BLOCKED, "key:key_1", "acme"),
            (Kind.KEY_BLOCKED, "key:key_2", "other"),
        ]
        assert "30 s" in alerts[0].text
    finally:
        await redis.aclose()


class Silent:
    """A store that never answers."""

    async def set(self, *_: Any, **__: Any) -> None:
        await asyncio.sleep(3600)


async def test_a_silent_store_holds_nobody_up(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "STORE_TIMEOUT_S", 0.05)
    worker = Notices(cast(Redis, Silent()), keys, Clock())
    for number in range(notices.MOST_WAITING + 50):
        worker.key_cooled(f"key_{number}", "", 30.0)
    assert len(worker._telling) == notices.MOST_WAITING
    await done(worker)


async def test_a_worker_that_ends_waits_for_nothing(keys: Keys) -> None:
    worker = Notices(cast(Redis, Silent()), keys, Clock())
    worker.key_cooled("key_1", "", 30.0)
    await asyncio.wait_for(worker.close(), 5)
    assert not worker._telling
