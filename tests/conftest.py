from __future__ import annotations

import os

import pytest

# Ray reads these when its library is first loaded, by whichever test that is (importing vLLM is enough): a head on
# loopback stays on loopback, and asks for a token.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
os.environ.setdefault("RAY_AUTH_MODE", "token")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
