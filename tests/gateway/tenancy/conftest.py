from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.tenancy.city import City

Founding = Callable[..., Awaitable[City]]


@pytest.fixture
async def found() -> AsyncIterator[Founding]:
    """Opens a city; it is gone when the test is over."""
    cities: list[City] = []
    folders: list[Path] = []

    async def founding(*words: str, kind: type[City] = City, **settings: Any) -> City:
        folders.append(Path(tempfile.mkdtemp(prefix="rh-")))
        city = kind(folders[-1], **settings)
        cities.append(city)
        return await city.open(*words)

    yield founding
    for city in cities:
        await city.close()
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
