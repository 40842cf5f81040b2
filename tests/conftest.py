from __future__ import annotations

import os

import pytest

# Ray reads it when it is first imported, by whichever test that is: a head on loopback stays on loopback.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
