"""Two neighbours that have things, and the store of a node that has nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.weights.store import WeightStore
from tests.models.weights.peers.neighbours import Neighbour


@pytest.fixture
def first(tmp_path: Path) -> Iterator[Neighbour]:
    with Neighbour("first", tmp_path).open() as node:
        yield node


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Neighbour]:
    with Neighbour("second", tmp_path).open() as node:
        yield node


@pytest.fixture
def mine(tmp_path: Path) -> WeightStore:
    return WeightStore(tmp_path / "mine", env={}, sleep=lambda seconds: None)


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port
