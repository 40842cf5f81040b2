from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from models.store.client import connect_async
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from tests.gateway.world import World

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def keys() -> Keys:
    """Every test has its own corner of the server."""
    return Keys(f"test{next(_numbers)}")


@pytest.fixture
def sockets() -> Iterator[Path]:
    """Short, because a unix socket's path has at most 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="rh-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def bare_world(redis_server: EmbeddedRedis, keys: Keys, sockets: Path) -> AsyncIterator[World]:
    """Everything but the gateway, which the test starts with limits of its own."""
    redis = connect_async(redis_server.url)
    world = World(redis, redis_server.url, keys, sockets)
    try:
        yield world
    finally:
        await world.stop()
        await redis.aclose()


@pytest.fixture
async def world(bare_world: World) -> World:
    await bare_world.start()
    return bare_world
