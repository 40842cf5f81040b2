"""The store's servers, for the tests of the controller's side of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from models.store.client import connect_async
from tests.models.control.stored_scene import StoredScene
from tests.models.store.conftest import embedded_url, tcp_url, url

__all__ = ["embedded_url", "tcp_url", "url"]


@pytest.fixture
async def redis(embedded_url: str) -> AsyncIterator[Redis]:
    """Empty. The scenes that were played on it end with it."""
    client = connect_async(embedded_url)
    await client.flushall()
    yield client
    while StoredScene.all:
        StoredScene.all.pop().end()
    await client.aclose()
