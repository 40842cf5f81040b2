"""Tenants are read when their version is another, and what cannot be read leaves the last that could."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from gateway.redis_keys import RedisKeyStore
from gateway.tenancy_reader import TenancyReader
from gateway.tenant_book import TenantBook
from models.store.client import connect_async
from models.store.codec import encode
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from models.store.records import KeyRecord
from models.store.tenancy import HouseRecord, ProjectRecord, TenantRecord

pytestmark = pytest.mark.anyio


@pytest.fixture
async def redis(redis_server: EmbeddedRedis) -> AsyncIterator[Redis]:
    client = connect_async(redis_server.url)
    yield client
    await client.aclose()


async def written(redis: Redis, keys: Keys, house: object, **tenants: object) -> None:
    await redis.set(keys.house, encode(house))
    await redis.delete(keys.tenants)
    for name, tenant in tenants.items():
        await redis.hset(keys.tenants, name, encode(tenant))
    await redis.incr(keys.tenancy_version)


async def test_an_installation_without_tenants_has_been_read_all_the_same(redis: Redis, keys: Keys) -> None:
    book = TenantBook(awaited=True)
    assert await TenancyReader(redis, keys, book).look()
    assert (book.loaded, book.version, book.house) == (True, 0, HouseRecord())
    assert not await TenancyReader(redis, keys, book).look()


async def test_what_changes_is_taken_up_and_what_does_not_stays(redis: Redis, keys: Keys) -> None:
    book = TenantBook()
    reader = TenancyReader(redis, keys, book)
    await written(redis, keys, HouseRecord(currency="EUR"), a=TenantRecord(tenant_id="a"))
    assert await reader.look()
    before, generation = book.tenants["a"], book.generation
    await written(redis, keys, HouseRecord(currency="EUR"), a=TenantRecord(tenant_id="a"))
    assert await reader.look(), "another version: keys may have changed"
    assert (book.tenants["a"] is before, book.generation) == (True, generation)
    await written(redis, keys, HouseRecord(currency="EUR"), b=TenantRecord(tenant_id="b"))
    assert await reader.look()
    assert (set(book.tenants), book.generation) == ({"b"}, generation + 1)


async def test_what_cannot_be_read_leaves_the_last_that_could(redis: Redis, keys: Keys) -> None:
    book = TenantBook()
    reader = TenancyReader(redis, keys, book)
    await written(redis, keys, HouseRecord(currency="EUR"), a=TenantRecord(tenant_id="a", weight=2.0))
    await reader.look()
    await written(redis, keys, {"currency": 7}, a={"tenant_id": []}, b=TenantRecord(tenant_id="b"))
    await reader.look()
    assert (book.house.currency, book.tenants["a"].weight, set(book.tenants)) == ("EUR", 2.0, {"a", "b"})


async def test_nobody_calls_without_limits_because_these_cannot_be_read(redis: Redis, keys: Keys) -> None:
    """A worker that begins knows nothing of before."""
    book = TenantBook(awaited=True)
    reader = TenancyReader(redis, keys, book)
    await written(redis, keys, HouseRecord(), a={"tenant_id": "a", "limits": "none"}, b=TenantRecord(tenant_id="b"))
    await reader.look()
    assert "cannot be read" in book.tenants["a"].blocked
    assert book.tenants["b"].blocked == ""
    await written(redis, keys, HouseRecord(), a=TenantRecord(tenant_id="a"))
    await reader.look()
    assert book.tenants["a"].blocked == ""


async def test_a_key_of_a_tenant_that_was_not_heard_of_yet_brings_it_along(redis: Redis, keys: Keys) -> None:
    reader = TenancyReader(redis, keys, TenantBook(awaited=True))
    store = RedisKeyStore(redis, keys, reader)
    await reader.look()
    key = KeyRecord(key_id="key_1", name="", scopes=("inference",), prefix="", created_unix_s=0.0, tenant="new")
    await redis.hset(keys.api_keys, "digest", encode(key))
    await written(redis, keys, HouseRecord(), new=TenantRecord(tenant_id="new", weight=3.0))
    assert await store.find("digest") == key
    assert reader.book.tenants["new"].weight == 3.0
    assert await reader.look(), "keys may have changed as well: that is told all the same"


async def test_a_new_project_of_a_known_tenant_is_brought_along_too(redis: Redis, keys: Keys) -> None:
    reader = TenancyReader(redis, keys, TenantBook(awaited=True))
    store = RedisKeyStore(redis, keys, reader)
    await written(redis, keys, HouseRecord(), t=TenantRecord(tenant_id="t"))
    await reader.look()
    key = KeyRecord(
        key_id="key_1", name="", scopes=("inference",), prefix="", created_unix_s=0.0, tenant="t", project="p"
    )
    await redis.hset(keys.api_keys, "digest", encode(key))
    projects = {"p": ProjectRecord(name="p", blocked="not yet")}
    await written(redis, keys, HouseRecord(), t=TenantRecord(tenant_id="t", projects=projects))
    await store.find("digest")
    assert reader.book.tenants["t"].projects == projects
