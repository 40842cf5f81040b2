"""Hours and days are read as if they were one: each second of the time that is asked for counts once."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from models.store.client import connect_async
from models.store.keys import Keys
from models.store.rollups import DAY_S, DAYS_KEPT_S, HOUR_S, HOURS_KEPT_S, Bucket, Row, field, read, read_gpus, spans

pytestmark = pytest.mark.anyio
NOW_S = 20_500 * DAY_S + 13 * HOUR_S + 600.0
NOON_S = 20_500 * DAY_S + 12 * HOUR_S


@pytest.fixture
async def redis(url: str) -> AsyncIterator[Redis]:
    client = connect_async(url)
    yield client
    await client.aclose()


class Books:
    def __init__(self, redis: Redis, keys: Keys) -> None:
        self.redis, self.keys = redis, keys

    async def add(self, hour: str, tenant: str, model: str, **sums: int) -> None:
        for metric, value in sums.items():
            name = field(tenant, "p", f"key-{tenant}", model, metric)
            await self.redis.hincrby(self.keys.usage_hour(hour), name, value)
            await self.redis.hincrby(self.keys.usage_day(hour[:10]), name, value)

    async def read(self, since_s: float, until_s: float, bucket: Bucket = "none", **terms: object) -> list[Row]:
        return await read(self.redis, self.keys, since_s, until_s, now_s=NOW_S, bucket=bucket, **terms)  # type: ignore[arg-type]


@pytest.fixture
async def books(redis: Redis, keys: Keys) -> Books:
    made = Books(redis, keys)
    await made.add("2026-02-16T12", "acme", "big", requests=2, cost=2**60)
    await made.add("2026-02-16T12", "other", "big", requests=5)
    await made.add("2026-02-16T13", "acme", "small", requests=1, cost=1)
    await made.add("2026-02-15T23", "acme", "small", requests=7)
    return made


async def test_sums_by_what_is_asked_for(books: Books) -> None:
    assert await books.read(NOON_S, NOW_S) == [
        Row("", ("acme",), {"requests": 3, "cost": 2**60 + 1}),
        Row("", ("other",), {"requests": 5}),
    ]
    assert await books.read(NOON_S, NOW_S, by=("model", "key"), where={"tenant": ["acme"]}) == [
        Row("", ("big", "key-acme"), {"requests": 2, "cost": 2**60}),
        Row("", ("small", "key-acme"), {"requests": 1, "cost": 1}),
    ]
    assert await books.read(NOON_S, NOW_S, by=(), where={"model": ["small", "none"]}) == [
        Row("", (), {"requests": 1, "cost": 1})
    ]


async def test_by_hour_and_by_day(books: Books) -> None:
    hours = await books.read(NOON_S - DAY_S, NOW_S, "hour", by=())
    assert [(row.at, row.sums["requests"]) for row in hours] == [
        ("2026-02-15T23", 7), ("2026-02-16T12", 7), ("2026-02-16T13", 1),
    ]  # fmt: skip
    days = await books.read(NOON_S, NOW_S, "day", by=())
    assert [(row.at, row.sums["requests"]) for row in days] == [("2026-02-16", 8)]


async def test_no_tenant_is_a_pattern(books: Books) -> None:
    await books.add("2026-02-16T12", "a*[b]?^\\", "big", requests=9)
    assert await books.read(NOON_S, NOW_S, where={"tenant": ["a*"]}) == []
    (row,) = await books.read(NOON_S, NOW_S, where={"tenant": ["a*[b]?^\\"]})
    assert row.sums == {"requests": 9}


async def test_a_dimension_that_there_is_not(books: Books) -> None:
    with pytest.raises(ValueError, match="'colour' is not one of tenant, project, key, model"):
        await books.read(NOON_S, NOW_S, by=("colour",))


async def test_many_fields_come_in_pages(books: Books) -> None:
    key = books.keys.usage_hour("2026-02-16T12")
    names = (field("acme", "p", f"k{number}", "big", "requests") for number in range(9000))
    await books.redis.hset(key, items=[part for name in names for part in (name, 1)])
    (acme, _) = await books.read(NOON_S, NOON_S + 1)
    assert acme.sums["requests"] == 9002


async def test_gpu_time(redis: Redis, keys: Keys) -> None:
    for use, ns in (("busy", 10**15), ("free", 7)):
        name = field("node/0", use, "t", "p", "k", "m")
        await redis.hincrby(keys.gpu_hour("2026-02-16T12"), name, ns)
    rows = await read_gpus(redis, keys, NOON_S, NOW_S, now_s=NOW_S, by=("gpu", "use"))
    assert rows == [Row("", ("node/0", "busy"), {"ns": 10**15}), Row("", ("node/0", "free"), {"ns": 7})]


HOURS = int(NOW_S // HOUR_S)
TIMES = st.integers(HOURS - 60 * 24, HOURS).map(lambda hour: hour * HOUR_S)


@given(TIMES, TIMES, st.sampled_from(["hour", "day", "none"]))
def test_spans_cover_the_time_once(since_s: int, until_s: int, bucket: Bucket) -> None:
    found = spans(since_s, until_s, bucket, NOW_S)
    covered = [hour for name, at_s in found for hour in range(at_s, at_s + (HOUR_S if "T" in name else DAY_S), HOUR_S)]
    assert len(covered) == len(set(covered))
    assert set(range(since_s, until_s, HOUR_S)) <= set(covered)
    kept_s = NOW_S - HOURS_KEPT_S
    for name, at_s in found:
        if "T" in name:
            assert bucket != "day"
            assert at_s >= kept_s, "hours are gone by then"
        else:
            whole = since_s <= at_s and at_s + DAY_S <= until_s and bucket != "hour"
            assert whole or bucket == "day" or at_s < kept_s + DAY_S


def test_nothing_is_looked_for_that_cannot_be_there() -> None:
    assert len(spans(0, NOW_S, "day", NOW_S)) <= DAYS_KEPT_S // DAY_S + 1
    assert len(spans(NOW_S, NOW_S + 1000 * DAY_S, "hour", NOW_S)) <= 50
    assert spans(NOW_S, NOW_S - DAY_S, "hour", NOW_S) == []
