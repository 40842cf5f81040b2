from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.standalone.standing import Standing


@pytest.fixture
def standing(sockets: Path) -> Iterator[Standing]:
    standing = Standing(sockets)
    yield standing
    standing.stop()
