"""A whole service for end-to-end tests: started with the real command, reached over real HTTP, stopped by the test."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

ROUNDHOUSE = str(Path(sys.executable).parent / "roundhouse")
UP_TIMEOUT_S = 180


@dataclass
class Service:
    home: Path
    port: int
    env: dict[str, str] = field(default_factory=dict)

    @property
    def roundhouse(self) -> str:
        return ROUNDHOUSE

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self, *args: str, check: bool = True, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [ROUNDHOUSE, *args], env=self.environ(), capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if check and done.returncode != 0:
            raise AssertionError(f"roundhouse {' '.join(args)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def json(self, *args: str) -> Any:
        return json.loads(self.run(*args, "--json").stdout)

    def json_on_stdout(self, *args: str) -> Any:
        """Of a command whose ``--json`` names a file."""
        return json.loads(self.run(*args, "--json", "-").stdout)

    def up(self, *args: str) -> None:
        self.run("up", "--detach", "--port", str(self.port), *args, timeout_s=UP_TIMEOUT_S)
        for line in (self.home / "demo.env").read_text().split():
            name, _, value = line.partition("=")
            self.env[name] = value

    def down(self) -> None:
        self.run("down", timeout_s=90)

    @property
    def api_key(self) -> str:
        return self.env["ROUNDHOUSE_API_KEY"]

    def http(self, admin: bool = False, **kwargs: Any) -> httpx.Client:
        key = self.env["ROUNDHOUSE_ADMIN_KEY" if admin else "ROUNDHOUSE_API_KEY"]
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {key}"}, timeout=120, **kwargs)

    def admin(self, path: str) -> Any:
        with self.http(admin=True) as client:
            return client.get(f"/admin/v1/{path}").raise_for_status().json()

    def order(self, model: str, verb: str) -> Any:
        with self.http(admin=True) as client:
            return client.post(f"/admin/v1/models/{model}/{verb}", params={"wait": "true"}).raise_for_status().json()

    def replicas(self, model: str) -> list[dict[str, Any]]:
        return [replica for replica in rows(self.admin("replicas")) if replica["model_id"] == model]

    def only_replica(self, model: str) -> dict[str, Any]:
        """The one that serves it, whatever tests before have left behind."""
        if len(self.replicas(model)) > 1:
            self.run("models", "stop", model)
        assert self.chat(model).status_code == 200
        (replica,) = self.replicas(model)
        return replica

    def decisions(self, model: str | None = None) -> list[dict[str, Any]]:
        found = rows(self.admin("decisions?limit=1000"))
        return [decision for decision in found if model is None or decision["model_id"] == model]

    def chat(self, model: str, text: str = "hello", **kwargs: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 4, **kwargs}
        with self.http() as client:
            return client.post("/v1/chat/completions", json=body)

    def environ(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("ROUNDHOUSE_")}
        extra = {k: v for k, v in self.env.items() if k.startswith("ROUNDHOUSE_REDIS")}
        return kept | extra | {"ROUNDHOUSE_HOME": str(self.home)}


def rows(answer: Any) -> list[dict[str, Any]]:
    """The list in an admin answer, bare or under ``data``."""
    return list(answer["data"]) if isinstance(answer, dict) else list(answer)


def until(condition: Callable[[], Any], timeout_s: float = 30, every_s: float = 0.05) -> Any:
    """Poll a real service until something is true; what it was."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(every_s)
    raise AssertionError(f"not so within {timeout_s} s")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def processes_of(home: Path) -> list[int]:
    """Processes that carry this installation's mark in their environment."""
    from models.home import INSTANCE_ENV, Home

    mark = f"{INSTANCE_ENV}={Home(home.resolve()).instance}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@contextmanager
def temporary_home() -> Iterator[Path]:
    """Short, so that sockets fit below it."""
    home = Path(tempfile.mkdtemp(prefix="rh-"))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)
