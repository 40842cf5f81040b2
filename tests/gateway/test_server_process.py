"""``python -m gateway.server`` as a process: early to listen, clean to end, light to import."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
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
from tests.gateway.world import World, chat_body, until

pytestmark = pytest.mark.anyio


class Process:
    def __init__(self, home: Path, url: str, prefix: str, *args: str) -> None:
        self.ready = home / "port"
        self.log = home / "log"
        env = {**os.environ, "ROUNDHOUSE_REDIS_URL": url, "ROUNDHOUSE_REDIS_PREFIX": prefix}
        command = [sys.executable, "-m", "gateway.server", "--home", str(home), "--port", "0"]
        with self.log.open("wb") as log:
            self.popen = subprocess.Popen([*command, "--ready-file", str(self.ready), *args], env=env, stderr=log)

    async def url(self) -> str:
        await until(lambda: self.ready.exists() or self.popen.poll() is not None)
        assert self.popen.poll() is None, self.log.read_text()
        return f"http://127.0.0.1:{self.ready.read_text().strip()}"

    async def ended(self) -> int:
        return await asyncio.to_thread(self.popen.wait, 20)


@pytest.fixture
def home(sockets: Path) -> Path:
    return sockets


@pytest.fixture
def spawn(home: Path, redis_server: EmbeddedRedis, keys: Keys) -> Iterator[Any]:
    started: list[Process] = []

    def start(*args: str, url: str = redis_server.url) -> Process:
        started.append(Process(home, url, keys.prefix, *args))
        return started[-1]

    yield start
    for process in started:
        if process.popen.poll() is None:
            process.popen.kill()
        process.popen.wait()


async def get(url: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.json()


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
        async with asyncio.timeout(10):
            while (await get(f"{url}/readyz"))[0] != 200:
                await asyncio.sleep(0.01)
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
        async with asyncio.timeout(10):
            while (await get(f"{url}/readyz"))[0] != 200:
                await asyncio.sleep(0.01)
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


@pytest.mark.parametrize(("module", "without"), [("gateway", HEAVY + SERVING), ("gateway.server", HEAVY)])
def test_importing_is_light(module: str, without: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(sorted(set(sys.modules) & set({without!r})))"
    began_s = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", f"after {time.monotonic() - began_s:.2f} s"
