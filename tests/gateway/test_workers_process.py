"""The gateway with several workers, as processes: what a worker's death costs (R4), and what they show together."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from tests.gateway.server_process import Process, processes, until_ready
from tests.gateway.world import World, chat_body, until, until_async

pytestmark = pytest.mark.anyio
WORKERS = 3
STREAMS = 24


@pytest.fixture
def spawn(sockets: Path, redis_server: EmbeddedRedis, keys: Keys) -> Iterator[Callable[..., Process]]:
    with processes(sockets, redis_server.url, keys.prefix) as start:
        yield start


@dataclass
class Caller:
    """One connection, and the worker that has it."""

    url: str
    world: World
    session: aiohttp.ClientSession = field(init=False)
    pid: int = 0

    async def connect(self) -> dict[str, Any]:
        connector = aiohttp.TCPConnector(limit=1)
        self.session = aiohttp.ClientSession(self.url, connector=connector, timeout=aiohttp.ClientTimeout(total=30))
        async with self.session.get("/admin/v1/status", headers=self.world.admin_headers) as answer:
            status: dict[str, Any] = await answer.json()
        self.pid = status["gateway"]["pid"]
        return status

    async def stream(self, started: Callable[[], object]) -> bool:
        """Whether it came to its end."""
        body = chat_body("m", stream=True, fake={"do": "stream", "pause_after": 2})
        try:
            async with self.session.post("/v1/chat/completions", json=body, headers=self.world.headers) as answer:
                started()
                return (await answer.read()).endswith(b"data: [DONE]\n\n")
        except aiohttp.ClientError:
            return False


@dataclass
class Load:
    """Callers that come one after the other, each with a connection of its own."""

    world: World
    url: str
    answered: list[tuple[float, float]] = field(default_factory=list)  # when asked, when answered
    lost: list[tuple[float, str]] = field(default_factory=list)

    async def run(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(self.url, connector=connector) as session:
            while True:
                asked_s = time.monotonic()
                try:
                    status, _, _ = await self.world.chat(session, "m")
                    assert status == 200
                    self.answered.append((asked_s, time.monotonic()))
                except aiohttp.ClientError as error:
                    self.lost.append((asked_s, type(error).__name__))


async def prepared(world: World, process: Process) -> str:
    world.key = await world.make_key("tester", "inference")
    world.admin_key = await world.make_key("operator", "admin")
    await world.engine("m-1")
    await world.announce(world.model("m", "m-1"))
    url = await process.url()
    await until_ready(url, times=20 * WORKERS)
    return url


@pytest.mark.chaos
async def test_a_worker_that_is_killed_costs_its_own_streams_and_nothing_else(
    spawn: Callable[..., Process], bare_world: World
) -> None:
    world = bare_world
    process = spawn("--workers", str(WORKERS))
    url = await prepared(world, process)
    callers = [Caller(url, world) for _ in range(STREAMS)]
    for caller in callers:
        await caller.connect()
    victim = callers[0].pid
    theirs = [caller for caller in callers if caller.pid == victim]
    assert len({caller.pid for caller in callers}) == WORKERS, "some are with each worker"

    open_streams: list[int] = []
    streams = [asyncio.create_task(each.stream(lambda: open_streams.append(1))) for each in callers]
    await until(lambda: len(open_streams) == STREAMS)
    loads = [Load(world, url) for _ in range(8)]
    running = [asyncio.create_task(load.run()) for load in loads]
    await until(lambda: all(len(load.answered) > 5 for load in loads))
    killed_s = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    await until(lambda: all(load.answered and load.answered[-1][0] > killed_s + 1.5 for load in loads))
    for task in running:
        task.cancel()
    world.engines["m-1"].go_on.set()
    came_to_end = await asyncio.gather(*streams)

    for caller, whole in zip(callers, came_to_end, strict=True):
        assert whole == (caller not in theirs), "its own streams end, all others go on"
        await caller.session.close()
    # Who asked while it died may have been with it. Who asked from then on is answered: refused is nobody.
    assert [lost for load in loads for lost in load.lost if lost[0] > killed_s] == []
    assert "ClientConnectorError" not in {name for load in loads for _, name in load.lost}
    waits = [answered - asked for load in loads for asked, answered in load.answered if asked > killed_s]
    print(f"the longest wait of {len(waits)} new callers after the kill: {max(waits):.2f} s")


async def test_the_figures_and_the_status_are_those_of_all(spawn: Callable[..., Process], bare_world: World) -> None:
    world = bare_world
    process = spawn("--workers", str(WORKERS))
    url = await prepared(world, process)
    first = Caller(url, world)
    status = await first.connect()
    assert status["workers_wanted"] == len(status["workers"]) == WORKERS
    assert [worker["number"] for worker in status["workers"]] == [0, 1, 2]
    assert all(worker["resident_bytes"] > 10 << 20 for worker in status["workers"])
    assert status["gateway"]["pid"] in {worker["pid"] for worker in status["workers"]}

    async def counted() -> tuple[float, float]:
        """(chats answered, workers that answer)."""
        async with aiohttp.ClientSession(url) as session, session.get("/metrics") as answer:
            text = await answer.text()
        chats = re.findall(r"^roundhouse_requests_total{.*chat.completions.*} ([0-9.]+)$", text, re.MULTILINE)
        workers = re.findall(r"^roundhouse_gateway_workers ([0-9.]+)$", text, re.MULTILINE)
        assert text.count("# TYPE roundhouse_requests_total") == 1
        return sum(map(float, chats)), float(workers[0])

    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(force_close=True)) as session:
        for _ in range(30):
            assert (await world.chat(session, "m"))[0] == 200
    assert [await counted() for _ in range(10)] == [(30.0, float(WORKERS))] * 10, "whoever is asked"

    os.kill(status["workers"][1]["pid"], signal.SIGKILL)

    async def all_again() -> bool:
        return (await counted()) == (30.0, float(WORKERS))

    await until_async(all_again)
    await first.session.close()


async def test_all_leave_together_and_open_answers_finish(spawn: Callable[..., Process], bare_world: World) -> None:
    world = bare_world
    process = spawn("--workers", str(WORKERS))
    url = await prepared(world, process)
    callers = [Caller(url, world) for _ in range(12)]
    for caller in callers:
        await caller.connect()
    open_streams: list[int] = []
    streams = [asyncio.create_task(each.stream(lambda: open_streams.append(1))) for each in callers]
    await until(lambda: len(open_streams) == len(callers))
    process.popen.send_signal(signal.SIGTERM)
    port = int(url.rpartition(":")[2])

    async def refused() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return True
        writer.close()
        return False

    await until_async(refused)
    world.engines["m-1"].go_on.set()
    assert all(await asyncio.gather(*streams))
    assert await process.ended() == 0
    for caller in callers:
        await caller.session.close()
    assert await world.redis.keys(world.keys.demand_pattern) == [], "each has withdrawn its report"
