"""Who uses unusually much is told of once, whoever looks, and stays on show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from gateway.billing.anomalies import Anomaly
from gateway.billing.anomaly_watch import AnomalyWatch
from models.store.alerts import Alert
from models.store.client import connect_async
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from models.store.rollups import field, hour_of

pytestmark = pytest.mark.anyio
NOON = 20_500 * 24 * 3600 + 12 * 3600


@pytest.fixture
async def redis(redis_server: EmbeddedRedis) -> AsyncIterator[Redis]:
    client = connect_async(redis_server.url)
    yield client
    await client.aclose()


class Scene:
    def __init__(self, redis: Redis, keys: Keys) -> None:
        self.redis, self.keys, self.now_s = redis, keys, float(NOON + 600)
        self.watch = self.watcher()

    def watcher(self) -> AnomalyWatch:
        return AnomalyWatch(self.redis, self.keys, lambda: self.now_s)

    async def use(self, key: str, requests: int, at_s: float | None = None) -> None:
        name = field("acme", "web", key, "m", "requests")
        at = hour_of(self.now_s if at_s is None else at_s)
        await self.redis.hincrby(self.keys.usage_hour(at), name, requests)

    async def usually(self, key: str, requests: int, hours: int = 48) -> None:
        for back in range(1, hours + 1):
            await self.use(key, requests, self.now_s - back * 3600)

    async def alerts(self) -> list[Alert]:
        read: Any = await self.redis.xrange(self.keys.alerts)
        return [msgspec.json.decode(fields[b"a"], type=Alert) for _, fields in read]

    async def shown(self) -> dict[str, Anomaly]:
        raws: Any = await self.redis.hgetall(self.keys.usage_anomalies)
        return {key.decode(): msgspec.json.decode(raw, type=Anomaly) for key, raw in raws.items()}


@pytest.fixture
def scene(redis: Redis, keys: Keys) -> Scene:
    return Scene(redis, keys)


async def test_a_runaway_key_is_told_of_once_and_its_use_stays_up_to_date(scene: Scene) -> None:
    await scene.usually("wild", 100)
    await scene.usually("calm", 100)
    await scene.use("calm", 200)
    assert await scene.watch.look() == []
    await scene.use("wild", 2_000)
    (told,) = await scene.watch.look()
    assert (told.key_id, told.used, told.usual) == ("wild", 2_000, 100)
    await scene.use("wild", 1_000)
    assert await scene.watch.look() == []
    (alert,) = await scene.alerts()
    assert (alert.kind, alert.place, alert.tenant, alert.rule) == ("usage.anomaly", "key:wild", "acme", "requests")
    assert (alert.used, alert.amount, alert.at) == (2_000, 100, int(scene.now_s * 1e6))
    assert "20 times its usual 100 requests" in alert.text
    assert (await scene.shown())["wild"].used == 3_000


async def test_it_is_told_again_the_next_day_not_the_next_hour(scene: Scene) -> None:
    await scene.usually("wild", 100, hours=150)
    for hour in range(26):
        await scene.use("wild", 2_000)
        await scene.watch.look()
        scene.now_s += 3600
        assert len(await scene.alerts()) == 1 + (hour >= 24)
    assert (await scene.shown())["wild"].hour == NOON + 25 * 3600


async def test_two_that_look_at_once_tell_once(scene: Scene) -> None:
    await scene.usually("wild", 100)
    await scene.use("wild", 2_000)
    told = await asyncio.gather(*(scene.watcher().look() for _ in range(4)))
    assert sum(len(each) for each in told) == 1
    assert len(await scene.alerts()) == 1


async def test_hours_that_are_over_are_read_once_and_late_ones_again(scene: Scene) -> None:
    await scene.usually("k", 100)
    await scene.watch.look()
    await scene.use("k", 5_000, scene.now_s - 3600)  # late events
    await scene.use("k", 5_000, scene.now_s - 30 * 3600)  # cannot happen: it is settled for good
    await scene.use("k", 900)
    await scene.watch.look()
    hours = scene.watch._hours
    hour = int(scene.now_s) // 3600
    assert hours[hour - 1]["k"].used["requests"] == 5_100
    assert hours[hour - 30]["k"].used["requests"] == 100


async def test_after_a_long_pause_all_is_read_again(scene: Scene) -> None:
    await scene.usually("k", 100)
    await scene.watch.look()
    scene.now_s += 10 * 3600
    await scene.use("k", 700, scene.now_s - 5 * 3600)
    await scene.watch.look()
    assert scene.watch._hours[int(scene.now_s) // 3600 - 5]["k"].used["requests"] == 700
    scene.now_s += 400 * 3600
    await scene.watch.look()
    assert min(scene.watch._hours) == int(scene.now_s) // 3600 - 7 * 24


async def test_what_was_weeks_ago_is_no_longer_shown(scene: Scene) -> None:
    await scene.usually("wild", 100)
    await scene.use("wild", 2_000)
    await scene.watch.look()
    scene.now_s += 8 * 86_400
    await scene.watch.look()
    assert await scene.shown() == {}
    assert len(await scene.alerts()) == 1
