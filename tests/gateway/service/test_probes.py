"""Each probe against the real thing or a small stand-in: not yet, then yes, and never an exception."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from gateway.service.ports import free_port
from gateway.service.probes import (
    LogLine,
    file_appears,
    http_ok,
    http_status,
    launcher_is_warm,
    launcher_status,
    listens,
    never,
    redis_answers,
)
from gateway.tls import Tls, TlsFiles
from models import secret
from models.cluster import Cluster
from models.home import Home
from models.store import exposed
from models.store.embedded import EmbeddedRedis
from tests.gateway.certificates import ONE, ONE_KEY

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def answering(path: Path, answer: bytes) -> AsyncIterator[None]:
    """A unix socket that answers every line with the same bytes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(talk, path)
    try:
        yield
    finally:
        server.close()


async def test_redis(home: Home) -> None:
    probe = redis_answers(home.redis_socket)
    assert not await probe()
    with EmbeddedRedis(home):
        assert await probe()
    assert not await probe()


async def test_redis_with_a_password(home: Home) -> None:
    secret.make(home.cluster_secret)
    Cluster(role="head", head="127.0.0.2", identity="me", port=free_port("127.0.0.2") - 2).write(home)
    asked = partial(exposed.password, home)
    with EmbeddedRedis(home):
        assert await redis_answers(home.redis_socket, asked)()
        assert not await redis_answers(home.redis_socket)()
        home.cluster_secret.unlink()
        assert not await redis_answers(home.redis_socket, asked)(), "not yet, and no exception"


async def test_something_listens() -> None:
    port = free_port("127.0.0.1")
    assert not await listens("127.0.0.1", port)()
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
    assert await listens("127.0.0.1", port)()
    server.close()
    assert not await never()


async def test_redis_that_still_loads_is_not_ready(home: Home) -> None:
    async with answering(home.run / "r.sock", b"-LOADING Redis is loading the dataset in memory\r\n"):
        assert not await redis_answers(home.run / "r.sock")()


@pytest.mark.parametrize(
    ("answer", "ready"),
    [
        (b'{"ready": true, "runtimes": {"vllm": "0.32.0"}}\n', True),
        (b'{"ready": false, "runtimes": {}}\n', False),
        (b"[true]\n", False),
        (b"nonsense\n", False),
        (b"", False),
        (b"x" * 200_000 + b"\n", False),
    ],
)
async def test_the_launcher_is_ready_when_it_says_so(home: Home, answer: bytes, ready: bool) -> None:
    path = home.run / "l.sock"
    async with answering(path, answer):
        assert await launcher_is_warm(path)() is ready


async def test_what_the_launcher_says_of_itself(home: Home) -> None:
    status = {"ready": False, "runtimes": {"vllm": "unavailable: no module named vllm"}}
    async with answering(home.run / "l.sock", json.dumps(status).encode() + b"\n"):
        assert await launcher_status(home.run / "l.sock") == status
    assert await launcher_status(home.run / "nobody.sock") == {}


async def test_http() -> None:
    port = free_port("127.0.0.1")
    probe = http_ok("127.0.0.1", port, "/readyz")
    assert not await probe()
    answers = iter((b"HTTP/1.1 503 Service Unavailable\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"garbage\r\n", b""))
    asked: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(next(answers))
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", port)
    assert [await http_status("127.0.0.1", port, "/readyz") for _ in range(4)] == [503, 200, None, None]
    assert set(asked) == {b"GET /readyz HTTP/1.1\r\n"}
    server.close()


async def test_a_file(tmp_path: Path) -> None:
    probe = file_appears(tmp_path / "here")
    assert not await probe()
    (tmp_path / "here").touch()
    assert await probe()


async def test_a_line_in_the_log_counts_only_if_it_is_new(tmp_path: Path) -> None:
    log = tmp_path / "control.log"
    probe = LogLine(log, "controller ready")
    probe.prepare()
    assert not await probe()
    log.write_text("hello\ncontroller ready, pid 7\n")
    assert await probe()
    probe.prepare()
    assert not await probe(), "that was said by the one before"
    with log.open("a") as file:
        file.write("not the controller ready\ncontroller ready, pid 8\n")
    assert await probe()


async def test_https_whatever_the_certificate(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text(ONE)
    (tmp_path / "key.pem").write_text(ONE_KEY)
    tls = Tls(TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem"))

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=tls.context)
    port = server.sockets[0].getsockname()[1]
    assert await http_ok("127.0.0.1", port, "/health", tls=True)()
    assert await http_status("127.0.0.1", port, "/health") is None, "plain HTTP is none"
    server.close()
