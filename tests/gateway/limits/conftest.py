from __future__ import annotations

from collections.abc import Iterator

import pytest

from models.store.client import connect
from models.store.embedded import EmbeddedRedis
from tests.gateway.limits.stage import DirectStore


@pytest.fixture
def store(redis_server: EmbeddedRedis) -> Iterator[DirectStore]:
    with connect(redis_server.url) as client:
        yield DirectStore(client)
