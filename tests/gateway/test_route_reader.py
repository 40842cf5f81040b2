"""Route tables: what did not change is not read again, and what is read is what was written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.route_reader import HEAD_BYTES, RouteReader, version_in
from models.store.client import connect_async
from models.store.codec import decode, encode
from models.store.embedded import EmbeddedRedis
from models.store.errors import StoreDataError
from models.store.keys import Keys
from models.store.records import Failure, ModelRoute, ReplicaRoute, RouteTable

FAILURE = Failure(message="no", code="model_start_failed", at_unix_s=1.0, retry_at_unix_s=2.0)


def routes() -> st.SearchStrategy[ModelRoute]:
    return st.builds(
        lambda number, replicas, failure: ModelRoute(
            model_id=f"m{number}",
            replicas=tuple(
                ReplicaRoute(replica_id=f"r{one}", endpoint=f"unix:/{one}", state="ready") for one in replicas
            ),
            failure=failure,
            traffic={"r1": 0.5},
        ),
        st.integers(0, 5),
        st.lists(st.integers(0, 3), max_size=2),
        st.sampled_from([None, FAILURE]),
    )


def table(version: int, *names: str, tier: str = "disk") -> RouteTable:
    return RouteTable(version=version, models=tuple(ModelRoute(model_id=name, tier=tier) for name in names))


@given(st.lists(st.lists(routes(), max_size=6).map(tuple), min_size=1, max_size=5))
def test_whatever_was_read_before_the_table_is_the_one_that_was_written(tables: list[tuple[ModelRoute, ...]]) -> None:
    reader = RouteReader()
    for version, models in enumerate(tables):
        raw = encode(RouteTable(version=version, models=models))
        assert reader.read(raw, "routes") == decode(raw, RouteTable, "routes")
        assert version_in(raw[:HEAD_BYTES]) == version


def test_what_is_as_it_was_is_the_same_object() -> None:
    reader = RouteReader()
    first = reader.read(encode(table(1, "a", "b", "c")), "routes")
    changed = RouteTable(version=2, models=(*table(2, "a").models, *table(2, "b", tier="gpu").models, first.models[2]))
    second = reader.read(encode(changed), "routes")
    assert [one is other for one, other in zip(first.models, second.models, strict=True)] == [True, False, True]
    assert second.models[1].tier == "gpu"
    third = reader.read(encode(table(3, "c")), "routes")
    assert third.models[0] is second.models[2], "also when it moved"


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"models":[]}', b'{"version":1,"models":[{"tier":"gpu"}]}'])
def test_nonsense_is_refused_and_forgotten(raw: bytes) -> None:
    reader = RouteReader()
    with pytest.raises(StoreDataError, match="routes"):
        reader.read(raw, "routes")
    assert reader.read(encode(table(2, "a")), "routes") == table(2, "a")


@pytest.mark.parametrize("head", [b"", b"{}", b'{"models":[],"version":3,', b'{"version":', b'{"version":12'])
def test_a_version_that_is_not_at_the_beginning_is_not_guessed(head: bytes) -> None:
    assert version_in(head) is None


@pytest.mark.anyio
async def test_only_a_table_of_another_version_is_fetched(redis_server: EmbeddedRedis, keys: Keys) -> None:
    reader, redis = RouteReader(), connect_async(redis_server.url)
    try:
        assert await reader.newest(redis, keys.routes, None) is None
        await redis.set(keys.routes, encode(table(7, "a")))
        found = await reader.newest(redis, keys.routes, None)
        assert found == table(7, "a")
        assert await reader.newest(redis, keys.routes, 7) is None
        assert await reader.newest(redis, keys.routes, 8) == found, "an older one too: the store may have lost its data"
        await redis.set(keys.routes, b"nonsense")
        with pytest.raises(StoreDataError):
            await reader.newest(redis, keys.routes, 7)
    finally:
        await redis.aclose()
