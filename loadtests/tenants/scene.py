"""A gateway and its Redis as ``roundhouse up`` runs them, an engine of the benchmark's, tenants with a key each."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import redis

from loadtests.coldstart.child import running, tail
from loadtests.gateway.ports import free_port
from loadtests.gateway.problems import CannotMeasure, DidNotStart
from loadtests.tenants.caller import MODEL, Ask, Heard

PREFIX = "roundhouse"
Rule = Mapping[str, str]  # a limit, as it is stored
START_S = 20.0
POLL_S = 0.02
SPARE_S = 60.0  # beyond the seconds that callers are to take


@dataclass(frozen=True, slots=True)
class Scene:
    """``keys``: tenant -> its key."""

    port: int
    keys: Mapping[str, str] = field(repr=False)

    def hear(self, asks: Mapping[str, Ask]) -> dict[str, Heard]:
        """Tenant -> what its callers saw, all of them at once. Raises CannotMeasure."""
        command = [sys.executable, "-m", "loadtests.tenants.caller"]
        with contextlib.ExitStack() as stack:
            callers = {}
            for tenant, ask in asks.items():
                process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                stack.callback(_end, process)
                assert process.stdin is not None
                process.stdin.write(json.dumps(asdict(ask)))
                process.stdin.close()
                process.stdin = None
                callers[tenant] = process
            return {tenant: _heard(process, asks[tenant]) for tenant, process in callers.items()}

    def ask(self, tenant: str, per_second: float, seconds: float, work_s: float, seed: int) -> Ask:
        return Ask(self.port, self.keys[tenant], per_second, seconds, work_s, seed)


@contextlib.contextmanager
def opened(folder: Path, slots: int, tenants: Mapping[str, Sequence[Rule]]) -> Iterator[Scene]:
    """``tenants``: name -> its limits. Raises DidNotStart."""
    folder.mkdir()
    home, socket = folder / "home", folder / "engine.sock"
    environ = {**os.environ, "ROUNDHOUSE_HOME": str(home)}
    with contextlib.ExitStack() as stack:

        def start(name: str, *words: str) -> subprocess.Popen[bytes]:
            return stack.enter_context(running([sys.executable, "-m", *words], environ, folder / f"{name}.log"))

        engine = start("engine", "loadtests.tenants.engine", str(socket))
        store = start("redis", "models.store.server", "--home", str(home))
        _until(lambda: "ready" in tail(folder / "engine.log"), engine, folder / "engine.log")
        client = redis.Redis(unix_socket_path=str(home / "run" / "redis.sock"))
        _until(lambda: _answers(client), store, folder / "redis.log")
        keys = _write(client, _table(socket, slots), tenants)
        client.close()
        port, ready = free_port(), folder / "ready"
        words = ("--home", str(home), "--port", str(port), "--access-log", "off", "--ready-file", str(ready))
        gateway = start("gateway", "gateway.server", *words)
        _until(ready.exists, gateway, folder / "gateway.log")
        yield Scene(port, keys)


def _table(socket: Path, slots: int) -> dict[str, Any]:
    """As the controller writes it: one model with one replica, that has half of its GPU."""
    replica = {"replica_id": f"{MODEL}-1", "endpoint": f"unix:{socket}", "state": "ready", "slots": slots}
    replicas = [{**replica, "memory_bytes": 1 << 30, "gpu_share": 0.5}]
    return {"version": 1, "models": [{"model_id": MODEL, "tier": "gpu", "replicas": replicas}]}


def _write(client: redis.Redis, routes: Mapping[str, Any], tenants: Mapping[str, Sequence[Rule]]) -> dict[str, str]:
    """What the gateway is to find. Each tenant's key."""
    keys = {}
    for name, limits in tenants.items():
        keys[name] = text = f"rh-{secrets.token_urlsafe(24)}"
        client.hset(f"{PREFIX}:tenants", name, json.dumps({"tenant_id": name, "limits": limits}))
        client.hset(f"{PREFIX}:api-keys", hashlib.sha256(text.encode()).hexdigest(), json.dumps(_key(name)))
    client.set(f"{PREFIX}:routes", json.dumps(routes))
    return keys


def _key(tenant: str) -> dict[str, Any]:
    record = {"key_id": f"key_{tenant}", "name": tenant, "tenant": tenant, "prefix": "rh-bench"}
    return {**record, "scopes": ["inference"], "created_unix_s": 1.0}


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def _until(done: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    give_up_s = time.monotonic() + START_S
    while not done():
        if process.poll() is not None or time.monotonic() > give_up_s:
            raise DidNotStart(f"it did not start:\n{tail(log)}")
        time.sleep(POLL_S)


def _heard(process: subprocess.Popen[str], ask: Ask) -> Heard:
    try:
        output, _ = process.communicate(timeout=ask.warmup_s + ask.seconds + SPARE_S)
    except subprocess.TimeoutExpired:
        raise CannotMeasure(f"callers did not end {SPARE_S:g} s after their time") from None
    if process.returncode:
        raise CannotMeasure(f"callers ended with {process.returncode}")
    document = json.loads(output)
    document["statuses"] = {int(status): count for status, count in document["statuses"].items()}
    return Heard(**document)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
    process.communicate()
