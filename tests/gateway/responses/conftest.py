from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from models.store.client import connect_async
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from tests.gateway.kept_world import KeptWorld


@pytest.fixture
async def kept_world(redis_server: EmbeddedRedis, keys: Keys, sockets: Path) -> AsyncIterator[KeptWorld]:
    """Without a worker: the test begins as many as it needs."""
    redis = connect_async(redis_server.url)
    world = KeptWorld(redis, redis_server.url, keys, sockets)
    try:
        yield world
    finally:
        await world.stop()
        await redis.aclose()
