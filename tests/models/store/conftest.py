"""Every test of the store that asks for ``url`` runs twice: on an embedded unix-socket server and on a TCP server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from models.store.client import connect
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from tests.models.store.servers import tcp_redis


@pytest.fixture(scope="session")
def embedded_url() -> Iterator[str]:
    with EmbeddedRedis() as store:
        yield store.url


@pytest.fixture(scope="session")
def tcp_url() -> Iterator[str]:
    with tcp_redis() as port:
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture(params=["embedded", "tcp"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty server."""
    found: str = request.getfixturevalue(f"{request.param}_url")
    with connect(found) as client:
        client.flushall()
    return found


@pytest.fixture
def client(url: str) -> Iterator[redis.Redis]:
    with connect(url) as client:
        yield client


@pytest.fixture
def keys() -> Keys:
    return Keys("test")
