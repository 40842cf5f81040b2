"""Engines and a gateway as processes of their own: to be killed, stopped, and looked at from outside."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from models.store.client import connect_async
from models.store.keys import Keys
from models.store.records import ModelRoute, ReplicaRoute
from tests.gateway.plane.protocol.house import wait_until
from tests.gateway.plane.protocol.wire import Caller, head
from tests.gateway.world import World, chat_body

T = TypeVar("T")
REPO = Path(__file__).resolve().parents[4]
_numbers = itertools.count(1)


def raise_open_files() -> int:
    """As far as this process may. How many it has now; its children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Engine:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.start()

    @property
    def endpoint(self) -> str:
        return f"unix:{self.path}"

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.gateway.plane.promises.engine_process", str(self.path)]
        self.process = subprocess.Popen(command, cwd=REPO)
        wait_until(self.answers)

    def answers(self) -> bool:
        try:
            self.stats()
        except OSError:
            assert self.process.poll() is None, "the engine did not start"
            return False
        return self.path.exists()

    def stats(self) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(10)
            asking.connect(f"{self.path}.stats")
            parts = []
            while part := asking.recv(1 << 16):
                parts.append(part)
        return dict(json.loads(b"".join(parts)))

    def was_asked(self) -> bool:
        return bool(self.stats()["asked"])

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Town:
    """The test is the controller here; the gateway is one worker."""

    def __init__(self, redis_url: str, folder: Path) -> None:
        self.folder = folder
        self.engines: list[Engine] = []
        self.gateway: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.log = folder / "gateway.log"
        self._redis_url = redis_url
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.world: World = self.run(self._make())
        self.key: str = self.run(self.world.make_key("tester", "inference"))
        self.admin_key: str = self.run(self.world.make_key("operator", "admin"))

    async def _make(self) -> World:
        return World(connect_async(self._redis_url), self._redis_url, Keys(f"town{next(_numbers)}"), self.folder)

    def run(self, what: Coroutine[Any, Any, T], timeout_s: float = 60.0) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(timeout_s)

    def open(self, engines: int = 1, **limits: Any) -> Town:
        self.engines = [Engine(self.folder / f"e{number}.sock") for number in range(engines)]
        ready = self.folder / "ready"
        given = {
            "redis_url": self._redis_url,
            "prefix": self.world.keys.prefix,
            "home": str(self.folder / "home"),
            "ready": str(ready),
            "limits": limits,
        }
        command = [sys.executable, "-m", "tests.gateway.plane.promises.gateway_process", json.dumps(given)]
        with self.log.open("wb") as log:
            self.gateway = subprocess.Popen(command, cwd=REPO, stderr=log)
        wait_until(lambda: ready.exists() or self.gateway is None or self.gateway.poll() is not None)
        assert self.gateway.poll() is None, self.log.read_text()
        self.port = int(ready.read_text())
        return self

    def route(self, *models: ModelRoute) -> None:
        self.run(self.world.route(*models))

    def model(self, name: str, slots: int = 0) -> ModelRoute:
        """On all engines."""
        replicas = tuple(
            ReplicaRoute(replica_id=f"{name}-{number}", endpoint=engine.endpoint, state="ready", slots=slots)
            for number, engine in enumerate(self.engines)
        )
        return ModelRoute(model_id=name, tier="gpu", replicas=replicas)

    def close(self) -> None:
        if self.gateway is not None:
            self.gateway.kill()
            self.gateway.wait()
        for engine in self.engines:
            if engine.process.poll() is None:
                engine.signal(signal.SIGCONT)
                engine.kill()
        self.run(self.world.redis.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # -- the gateway, from outside ---------------------------------------------------------------------------------

    def memory_bytes(self) -> int:
        return self._memory("VmRSS")

    def peak_bytes(self) -> int:
        """Since ``forget_peak``."""
        return self._memory("VmHWM")

    def forget_peak(self) -> None:
        assert self.gateway is not None
        Path(f"/proc/{self.gateway.pid}/clear_refs").write_text("5")

    def _memory(self, what: str) -> int:
        assert self.gateway is not None
        lines = Path(f"/proc/{self.gateway.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:")) << 10

    def open_files(self) -> int:
        assert self.gateway is not None
        return len(os.listdir(f"/proc/{self.gateway.pid}/fd"))

    # -- the caller's part -----------------------------------------------------------------------------------------

    def caller(self, **kwargs: Any) -> Caller:
        return Caller(self.port, **kwargs)

    def head(self, *headers: tuple[str, str], path: str = "/v1/chat/completions", method: str = "POST") -> bytes:
        usual = (("authorization", f"Bearer {self.key}"), ("content-type", "application/json"))
        return head(*usual, *headers, path=path, method=method)

    def request(self, model: str = "m", *headers: tuple[str, str], **fields: Any) -> bytes:
        body = msgspec.json.encode(chat_body(model, **fields))
        return self.head(("content-length", str(len(body))), *headers) + body
