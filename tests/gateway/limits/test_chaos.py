"""Real workers and a real store, raced, killed and stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.clock import Clock
from gateway.errors import GatewayError, StoreUnavailable
from models.store.client import connect, connect_async
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from tests.gateway.limits.stage import Worker, account, held, need, rule

pytestmark = [pytest.mark.anyio, pytest.mark.chaos]

AMOUNT = 1000


@dataclass(frozen=True)
class Racer:
    process: subprocess.Popen[bytes]
    lines: Path

    def spent(self) -> int:
        return sum(map(int, self.lines.read_text().split()))


@contextmanager
def racers(server: EmbeddedRedis, keys: Keys, folder: Path, for_s: float) -> Iterator[list[Racer]]:
    begin_unix_s = time.time() + 4  # until then all of them are there

    def start(number: int) -> Racer:
        given = [server.url, keys.prefix, f"racer{number}", str(AMOUNT), str(begin_unix_s), str(for_s)]
        lines = folder / f"{number}.txt"
        with lines.open("wb") as out:
            command = [sys.executable, "-m", "tests.gateway.limits.racer", *given]
            return Racer(subprocess.Popen(command, stdout=out), lines)

    started = [start(number) for number in range(8)]
    try:
        yield started
    finally:
        for racer in started:
            racer.process.kill()
            racer.process.wait()


def spent(started: list[Racer]) -> int:
    for racer in started:
        racer.process.wait(60)
    return sum(racer.spent() for racer in started)


def stored(server: EmbeddedRedis, keys: Keys) -> int:
    with connect(server.url) as client:
        fields = held(client, keys, account(rule("tokens", AMOUNT, "day")).rules("m")[0])
    return sum(int(value) for name, value in fields.items() if name.isdigit())


def test_eight_workers_that_race_for_one_budget_spend_all_of_it_and_no_more(
    redis_server: EmbeddedRedis, keys: Keys, tmp_path: Path
) -> None:
    with racers(redis_server, keys, tmp_path, for_s=3.0) as started:
        total = spent(started)
    print(f"8 workers spent {total} of {AMOUNT} tokens")
    assert AMOUNT * 0.99 <= total <= AMOUNT
    assert stored(redis_server, keys) == total


@pytest.mark.long
def test_workers_that_are_killed_in_the_race_take_nothing_beyond_it(
    redis_server: EmbeddedRedis, keys: Keys, tmp_path: Path
) -> None:
    """What they had in hand is lost at most: it counts as used."""
    with racers(redis_server, keys, tmp_path, for_s=3.0) as started:
        for racer in started[:4]:
            while not racer.spent() and racer.process.poll() is None:
                time.sleep(0.002)
            racer.process.send_signal(signal.SIGKILL)
        total = spent(started)
    print(f"8 workers, 4 of them killed, spent {total} of {AMOUNT} tokens")
    assert AMOUNT * 0.8 <= total <= AMOUNT


@pytest.fixture
async def own() -> AsyncIterator[tuple[EmbeddedRedis, Worker]]:
    """A store of the test's own, and a worker that has been using it."""
    with EmbeddedRedis() as server:
        redis = connect_async(server.url)
        worker = Worker(redis, Keys("own"), Clock(), workers=2)
        try:
            await worker.take(need(account(rule("requests", 100), rule("tokens", 1000, "day"))))
            yield server, worker
        finally:
            if server.pid is not None:
                os.kill(server.pid, signal.SIGCONT)
            await worker.stop()
            await redis.aclose()


async def timed(worker: Worker, *rules: object) -> tuple[float, GatewayError | None]:
    begun_s = time.perf_counter()
    try:
        await worker.take(need(account(*rules), 10))  # type: ignore[arg-type]
    except GatewayError as error:
        return time.perf_counter() - begun_s, error
    return time.perf_counter() - begun_s, None


async def test_a_stopped_store(own: tuple[EmbeddedRedis, Worker]) -> None:
    server, worker = own
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    first = await timed(worker, rule("requests", 100))
    others = [await timed(worker, rule("requests", 100)) for _ in range(20)]
    budget = await timed(worker, rule("tokens", 1000, "day"))
    longest_s = max(took_s for took_s, _ in others)
    print(f"stopped: the first request waited {first[0] * 1e3:.0f} ms, the others {longest_s * 1e3:.2f} ms at most")
    assert [error for _, error in (first, *others) if error] == []
    assert isinstance(budget[1], StoreUnavailable)
    os.kill(server.pid, signal.SIGCONT)
    await until_granted(worker)


async def test_a_store_that_is_killed_and_comes_back(own: tuple[EmbeddedRedis, Worker]) -> None:
    server, worker = own
    await asyncio.to_thread(server.kill)
    took = [await timed(worker, rule("requests", 100)) for _ in range(20)]
    budget = await timed(worker, rule("tokens", 1000, "day"))
    print(f"killed: requests waited {max(took_s for took_s, _ in took) * 1e3:.0f} ms at most")
    assert [error for _, error in took if error] == []
    assert isinstance(budget[1], StoreUnavailable)
    await asyncio.to_thread(server.start)
    await until_granted(worker)


async def until_granted(worker: Worker) -> None:
    begun_s = time.perf_counter()
    async with asyncio.timeout(30):
        while (await timed(worker, rule("tokens", 1000, "day")))[1] is not None:
            await asyncio.sleep(0.02)
    print(f"budgets are granted again after {time.perf_counter() - begun_s:.2f} s")
