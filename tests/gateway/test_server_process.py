"""``python -m gateway.server`` as a process: early to listen, clean to end, light to import."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from tests.gateway.certificates import ONE, ONE_KEY, TWO, TWO_KEY
from tests.gateway.server_process import get, processes, until_ready
from tests.gateway.world import World, chat_body, until, until_async

pytestmark = pytest.mark.anyio


@pytest.fixture
def home(sockets: Path) -> Path:
    return sockets


@pytest.fixture
def spawn(home: Path, redis_server: EmbeddedRedis, keys: Keys) -> Iterator[Any]:
    with processes(home, redis_server.url, keys.prefix) as start:
        yield start


async def test_it_is_alive_without_redis_and_not_ready(spawn: Any, home: Path) -> None:
    process = spawn(url=f"unix://{home}/nobody.sock")
    url = await process.url()
    assert await get(f"{url}/health") == (200, {"status": "ok"})
    status, body = await get(f"{url}/readyz")
    assert (status, body["redis"]) == (503, "down")
    process.popen.send_signal(signal.SIGTERM)
    assert await process.ended() == 0


async def test_sigterm_lets_open_answers_finish_and_takes_no_new_ones(spawn: Any, bare_world: World) -> None:
    world = bare_world
    world.key = await world.make_key("tester", "inference")
    engine = await world.engine("m-1")
    await world.announce(world.model("m", "m-1"))
    process = spawn()
    url = await process.url()
    body = chat_body("m", stream=True, fake={"do": "stream", "pause_after": 2})
    async with aiohttp.ClientSession(url) as session:
        await until_ready(url)
        async with session.post("/v1/chat/completions", json=body, headers=world.headers) as answer:
            assert answer.status == 200
            process.popen.send_signal(signal.SIGTERM)

            def refused() -> bool:
                with socket.socket() as probe:
                    return probe.connect_ex(("127.0.0.1", int(url.rsplit(":", 1)[1]))) != 0

            await until(refused)
            engine.go_on.set()
            assert (await answer.read()).endswith(b"data: [DONE]\n\n")
    assert await process.ended() == 0
    lines = [json.loads(line) for line in process.log.read_text().splitlines()]
    assert {"listening", "request", "ended"} <= {line["event"] for line in lines}
    assert world.key not in process.log.read_text()
    assert await world.redis.keys(world.keys.demand_pattern) == [], "its report is withdrawn"


async def test_an_answer_that_does_not_end_is_cut_off_in_time(spawn: Any, bare_world: World) -> None:
    world = bare_world
    world.key = await world.make_key("tester", "inference")
    engine = await world.engine("m-1")
    await world.announce(world.model("m", "m-1"))
    process = spawn("--drain-timeout", "1")
    url = await process.url()
    async with aiohttp.ClientSession(url) as session:
        await until_ready(url)
        body = chat_body("m", fake={"do": "hang"})
        asking = asyncio.ensure_future(session.post("/v1/chat/completions", json=body, headers=world.headers))
        await until(lambda: engine.open == 1)
        process.popen.send_signal(signal.SIGTERM)
        assert await process.ended() == 0
        await until(lambda: engine.abandoned == 1)
        await asyncio.gather(asking, return_exceptions=True)


async def test_a_port_that_is_taken_is_said_clearly(spawn: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = spawn("--port", str(taken.getsockname()[1]))
        assert await process.ended() == 1
    assert process.log.read_text().startswith("cannot listen on 127.0.0.1 port")
    assert "Traceback" not in process.log.read_text()


@pytest.mark.parametrize(
    "args", [("--port", "70000"), ("--hold-limit", "0"), ("--hold-timeout", "soon"), ("--max-body", "-1")]
)
async def test_wrong_arguments_are_named(spawn: Any, args: tuple[str, str]) -> None:
    process = spawn(*args)
    assert await process.ended() == 2
    assert args[0] in process.log.read_text()


async def test_a_wrong_redis_url_is_said_without_its_password(spawn: Any) -> None:
    process = spawn(url="http://user:hunter2@host")
    assert await process.ended() == 2
    assert "ROUNDHOUSE_REDIS_URL" in process.log.read_text()
    assert "hunter2" not in process.log.read_text()


HEAVY = ("ray", "torch", "vllm", "transformers")
SERVING = ("fastapi", "uvicorn", "aiohttp", "redis", "starlette", "structlog")


LATER = ("fastapi", "pydantic", "uvicorn", "aiohttp")  # a worker loads them, if ever, when somebody asks for more


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("gateway", HEAVY + SERVING),
        ("gateway.server", HEAVY + SERVING),
        ("gateway.app", HEAVY + LATER),
        ("gateway.plane.server", HEAVY + LATER),
        ("gateway.admin_port", HEAVY + LATER),
    ],
)
def test_importing_is_light(module: str, without: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(sorted(set(sys.modules) & set({without!r})))"
    began_s = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", f"after {time.monotonic() - began_s:.2f} s"


async def test_a_hangup_is_no_reason_to_end(spawn: Any) -> None:
    process = spawn()
    url = await process.url()
    process.popen.send_signal(signal.SIGHUP)
    for _ in range(5):
        assert (await get(f"{url}/health"))[0] == 200
    assert process.popen.poll() is None


async def test_tls_with_a_certificate_renewed_on_the_way(spawn: Any, bare_world: World, tmp_path: Path) -> None:
    world = bare_world
    world.key = await world.make_key("tester", "inference")
    engine = await world.engine("m-1")
    await world.announce(world.model("m", "m-1"))
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_text(ONE)
    key.write_text(ONE_KEY)
    process = spawn("--tls-cert", str(cert), "--tls-key", str(key))
    url = f"https://localhost:{await process.port()}"
    first, second = (ssl.create_default_context(cadata=trusted) for trusted in (ONE, TWO))
    await until_ready(url, ssl=first)
    body = chat_body("m", stream=True, fake={"do": "stream", "pause_after": 2})
    async with (
        aiohttp.ClientSession(url) as session,
        session.post("/v1/chat/completions", json=body, headers=world.headers, ssl=first) as answer,
    ):
        assert answer.status == 200
        cert.write_text(TWO)
        key.write_text(TWO_KEY)
        process.popen.send_signal(signal.SIGHUP)

        async def renewed() -> bool:
            try:
                return (await get(f"{url}/health", ssl=second))[0] == 200
            except aiohttp.ClientConnectorCertificateError:
                return False

        await until_async(renewed)
        engine.go_on.set()
        assert (await answer.read()).endswith(b"data: [DONE]\n\n"), "the stream went on over the old one"
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await get(f"{url}/health", ssl=first)


async def test_a_certificate_that_cannot_be_used_is_said(spawn: Any, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text(ONE)
    process = spawn("--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "none.pem"))
    assert await process.ended() == 2
    assert "none.pem cannot be read" in process.log.read_text()
