"""A gateway in this process (``house``) or in one of its own (``town``), both with engines that do as they are told."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from models.store.embedded import EmbeddedRedis
from tests.gateway.plane.promises.town import Town
from tests.gateway.plane.protocol.house import House


@contextmanager
def short_folder() -> Iterator[Path]:
    """A unix socket's path has at most 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="rh-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def open_house(redis_server: EmbeddedRedis) -> Iterator[House]:
    """One gateway for the tests of a file: they leave it as they found it."""
    with short_folder() as folder:
        house = House(redis_server.url, folder)
        try:
            yield house.open(models={"m": 1, "pair": 2, "trio": 3})
        finally:
            house.close()


@pytest.fixture
def house(open_house: House) -> Iterator[House]:
    open_house.engine.anew()
    yield open_house
    nonsense = list(open_house.engine.nonsense)
    open_house.engine.anew()
    assert nonsense == [], "bytes reached the engine that are no request"


@pytest.fixture
def town(redis_server: EmbeddedRedis) -> Iterator[Town]:
    """Processes of its own for each test: it may kill them."""
    with short_folder() as folder:
        town = Town(redis_server.url, folder)
        try:
            yield town
        finally:
            town.close()
