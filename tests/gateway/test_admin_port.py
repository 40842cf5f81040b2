"""The admin API on a port of its own, with real processes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from gateway.admin import PREFIX
from gateway.admin_port import ROOT
from gateway.workers import address
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from tests.gateway.server_process import Process, processes
from tests.gateway.world import World, until_async

pytestmark = pytest.mark.anyio


@pytest.fixture
def spawn(sockets: Path, redis_server: EmbeddedRedis, keys: Keys) -> Iterator[Callable[..., Process]]:
    with processes(sockets, redis_server.url, keys.prefix) as start:
        yield start


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("workers", [1, 2])
async def test_it_is_there_and_nowhere_else(spawn: Callable[..., Process], bare_world: World, workers: int) -> None:
    world = bare_world
    world.admin_key = await world.make_key("operator", "admin")
    admin = free_port()
    process = spawn("--admin", f"127.0.0.1:{admin}", "--workers", str(workers))
    port = await process.port()

    async def status(at: int, path: str) -> int:
        connector = aiohttp.TCPConnector(force_close=True)
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{at}", connector=connector) as session,
            session.get(path, headers=world.admin_headers) as answer,
        ):
            if answer.status == 404:
                assert (await answer.json())["error"]["code"] == "not_found"
            return answer.status

    async def ready() -> bool:
        return await status(admin, "/admin/v1/status") == 200

    await until_async(ready)
    for _ in range(8):  # whichever worker it is
        assert await status(admin, "/admin/v1/status") == 200
        for path in ("/admin/v1/status", "/admin/v1/keys", "/admin", "/admin/"):
            assert await status(port, path) == 404
        assert await status(port, "/health") == 200


@pytest.mark.parametrize("workers", [1, 2])
async def test_when_it_is_taken_nothing_starts(spawn: Callable[..., Process], workers: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = spawn("--admin", f"127.0.0.1:{port}", "--workers", str(workers))
        assert await process.ended() == 1
    assert process.log.read_text().startswith(f"cannot listen on 127.0.0.1 port {port}")


def test_every_path_of_the_admin_api_is_meant() -> None:
    assert PREFIX.split("/")[1] == ROOT


def test_addresses() -> None:
    assert address("[::1]:80") == address("::1:80") == ("::1", 80)
    assert address("10.0.0.7:0") == ("10.0.0.7", 0)
