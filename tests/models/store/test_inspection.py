"""What lies under our keys and is not ours."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from models.store.client import connect_async
from models.store.codec import encode
from models.store.inspection import LEASE_S, KeysTaken, check_keys, foreign, kinds, move_in, owner
from models.store.keys import Keys
from models.store.records import ClusterRecord
from tests.models.store.test_keys import all_keys

pytestmark = pytest.mark.anyio


@pytest.fixture
async def redis(url: str) -> AsyncIterator[Redis]:
    client = connect_async(url)
    yield client
    await client.aclose()


def cluster(name: str) -> ClusterRecord:
    return ClusterRecord(cluster_id=name, host=f"{name}.example", since_unix_s=1.0)


async def enter(redis: Redis, keys: Keys, name: str) -> None:
    await move_in(redis, keys, cluster(name), encode(cluster(name)))


async def test_an_empty_server_is_fine(redis: Redis, keys: Keys) -> None:
    await check_keys(redis, keys)


async def test_what_another_program_keeps_under_our_names_is_named_with_the_cure(redis: Redis, keys: Keys) -> None:
    await redis.rpush(keys.fleet, "x")
    await redis.set(keys.decisions, "y")
    with pytest.raises(KeysTaken) as refused:
        await check_keys(redis, keys)
    assert "test:fleet holds a list where Roundhouse keeps a string" in str(refused.value)
    assert "test:decisions holds a string where Roundhouse keeps a stream" in str(refused.value)
    assert "ROUNDHOUSE_REDIS_PREFIX" in str(refused.value)
    await check_keys(redis, Keys("other"))


def test_every_key_of_a_kind_is_known_and_nothing_is_complained_of_where_nothing_is(keys: Keys) -> None:
    assert kinds(keys).keys() < set(all_keys(keys))
    assert foreign(kinds(keys), keys) == []
    assert foreign({}, keys) == []


async def test_two_clusters_do_not_share_keys(redis: Redis, keys: Keys) -> None:
    await enter(redis, keys, "one")
    with pytest.raises(KeysTaken, match=r"another cluster, which is running on one\.example"):
        await enter(redis, keys, "other")
    assert owner(await redis.get(keys.cluster), keys) == cluster("one")
    await enter(redis, Keys("elsewhere"), "other")


async def test_a_cluster_comes_back_to_its_own_keys(redis: Redis, keys: Keys) -> None:
    await enter(redis, keys, "one")
    await enter(redis, keys, "one")
    assert 0 < await redis.pttl(keys.controller_lease) <= LEASE_S * 1000


async def test_keys_that_nobody_works_with_any_more_are_taken_over(redis: Redis, keys: Keys) -> None:
    await enter(redis, keys, "one")
    await redis.delete(keys.controller_lease)
    await enter(redis, keys, "other")
    assert owner(await redis.get(keys.cluster), keys) == cluster("other")


@pytest.mark.parametrize("nonsense", [b"{", b"7", b"null", b'"one"', b'{"id": 3}', b""])
async def test_nonsense_in_the_place_of_a_name_keeps_nobody_out(redis: Redis, keys: Keys, nonsense: bytes) -> None:
    await redis.set(keys.cluster, nonsense)
    await redis.set(keys.controller_lease, "3", px=5000)
    assert owner(nonsense, keys) is None
    await enter(redis, keys, "one")
    assert owner(await redis.get(keys.cluster), keys) == cluster("one")
