"""A gateway on its own as a process, its files, and upstreams as processes; the test edits, kills and calls."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import openai
import yaml

from tests.gateway.world import until

ENDED_S = 60


@dataclass
class Standing:
    """``folder``: short, for sockets."""

    folder: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    gateway: subprocess.Popen[bytes] | None = None
    url: str = ""

    @property
    def routes(self) -> Path:
        return self.folder / "routes.yaml"

    @property
    def keys(self) -> Path:
        return self.folder / "keys.yaml"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def events(self, name: str) -> list[dict[str, Any]]:
        """Those lines of the log."""
        lines = (line for line in self.log.read_text().splitlines() if line.startswith("{"))
        return [found for found in map(json.loads, lines) if found["event"] == name]

    def write_routes(self, *models: dict[str, Any], **limits: Any) -> None:
        """In one step, as careful editors do."""
        _replace(self.routes, yaml.safe_dump({"models": list(models), "limits": limits}))

    def write_keys(self, *keys: dict[str, Any]) -> None:
        _replace(self.keys, yaml.safe_dump({"keys": list(keys)}))

    def model(self, name: str, *upstreams: str, **fields: Any) -> dict[str, Any]:
        """``upstreams``: names of upstreams that are, or will be, started here."""
        return {"model_id": name, "upstreams": [{"url": f"unix:{self.socket(each)}"} for each in upstreams], **fields}

    def socket(self, name: str) -> Path:
        return self.folder / f"{name}.sock"

    async def upstream(self, name: str) -> subprocess.Popen[bytes]:
        words = ["-m", "tests.gateway.standalone.upstream", str(self.socket(name)), name]
        process = self._spawn(words, subprocess.DEVNULL)
        await until(lambda: self.socket(name).exists())
        return process

    async def start(self, *words: str, scheme: str = "http", **environment: str) -> None:
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        command = ["-m", "gateway.cli", "gateway", "--routes", str(self.routes), "--port", "0"]
        with self.log.open("ab") as log:
            self.gateway = self._spawn([*command, "--ready-file", str(ready), *words], log, **environment)
        gateway = self.gateway
        await until(lambda: ready.exists() or gateway.poll() is not None)
        assert gateway.poll() is None, self.log.read_text()
        self.url = f"{scheme}://127.0.0.1:{ready.read_text().strip()}"

    def signal(self, number: signal.Signals) -> None:
        assert self.gateway is not None
        self.gateway.send_signal(number)

    async def ended(self) -> int:
        assert self.gateway is not None
        return await asyncio.to_thread(self.gateway.wait, ENDED_S)

    def stop(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()

    def _spawn(self, words: list[str], errors: Any, **environment: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, *words]
        process = subprocess.Popen(command, env={**os.environ, **environment}, stderr=errors, stdout=errors)
        self.started.append(process)
        return process

    # -- the caller's part -----------------------------------------------------------------------------------------

    def openai(self, key: str = "rh-any") -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=30)

    @contextlib.asynccontextmanager
    async def client(self, key: str = "rh-any") -> AsyncIterator[aiohttp.ClientSession]:
        connector = aiohttp.TCPConnector(limit=0, force_close=True)  # each request may meet another worker
        headers = {"authorization": f"Bearer {key}"} if key else {}
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(self.url, headers=headers, connector=connector, timeout=timeout) as session:
            yield session

    async def ask(self, session: aiohttp.ClientSession, model: str, **fields: Any) -> tuple[int, Any]:
        """Status and JSON of one chat."""
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}
        async with session.post("/v1/chat/completions", json=body) as answer:
            return answer.status, await answer.json()

    async def who(self, session: aiohttp.ClientSession, model: str, **fields: Any) -> str:
        """Which upstream answered."""
        status, answer = await self.ask(session, model, **fields)
        assert status == 200, answer
        return str(answer["choices"][0]["message"]["content"])

    async def get(self, path: str, key: str = "rh-any") -> Any:
        async with self.client(key) as session, session.get(path) as answer:
            return await answer.json()


def _replace(path: Path, text: str) -> None:
    partial = path.with_suffix(".part")
    partial.write_text(text)
    partial.replace(path)
