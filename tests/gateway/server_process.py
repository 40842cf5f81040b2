"""``python -m gateway.server`` for tests."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.gateway.world import SOON_S, until


class Process:
    def __init__(self, home: Path, url: str, prefix: str, *args: str) -> None:
        self.ready = home / "port"
        self.log = home / "log"
        env = {**os.environ, "ROUNDHOUSE_REDIS_URL": url, "ROUNDHOUSE_REDIS_PREFIX": prefix}
        command = [sys.executable, "-m", "gateway.server", "--home", str(home), "--port", "0"]
        with self.log.open("wb") as log:
            self.popen = subprocess.Popen([*command, "--ready-file", str(self.ready), *args], env=env, stderr=log)

    async def port(self) -> int:
        await until(lambda: self.ready.exists() or self.popen.poll() is not None)
        assert self.popen.poll() is None, self.log.read_text()
        return int(self.ready.read_text())

    async def url(self) -> str:
        return f"http://127.0.0.1:{await self.port()}"

    async def ended(self) -> int:
        return await asyncio.to_thread(self.popen.wait, 60)


@contextmanager
def processes(home: Path, redis_url: str, prefix: str) -> Iterator[Callable[..., Process]]:
    """Starts them; those that still run at the end are ended."""
    started: list[Process] = []

    def start(*args: str, url: str = redis_url) -> Process:
        started.append(Process(home, url, prefix, *args))
        return started[-1]

    yield start
    for process in started:
        if process.popen.poll() is None:
            process.popen.terminate()  # killed, a master could not end its workers as fast
            try:
                process.popen.wait(SOON_S)
            except subprocess.TimeoutExpired:
                process.popen.kill()
        process.popen.wait()


async def get(url: str, **options: Any) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.get(url, **options) as answer:
        return answer.status, await answer.json()


async def until_ready(url: str, times: int = 1, **options: Any) -> None:
    """``times`` new connections in a row, for as many workers, find it ready."""
    in_a_row = 0
    async with asyncio.timeout(SOON_S):
        while in_a_row < times:
            in_a_row = in_a_row + 1 if (await get(f"{url}/readyz", **options))[0] == 200 else 0
            await asyncio.sleep(0.01)
