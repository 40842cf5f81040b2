"""``python -m loadtests.gateway.whole``: the gateway as ``roundhouse up`` runs it, with all that an answer meets there.

A worker (or several) with its Redis and its meter: keys are looked up, limits reserved and settled, requests metered
and settled into sums. What the controller would write is written: the routing table and what is on a GPU once, and
every second that it is there. Only the gateway runs on the cores that this was started on; Redis and the meter have the
others, as on a machine that is not made of one core.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import redis

from loadtests.gateway.cores import children_on
from loadtests.gateway.traffic import MODELS
from models.store.codec import encode
from models.store.usage import GpuPicture, Occupant, Phase

PREFIX = "roundhouse"
START_S = 20.0
STOP_S = 5.0
RULE_S = 1.0
KEY_ID = "key_benchmark"
# So high that nothing is refused; all three of a request's amounts are counted, at two places.
LIMITS = (
    {"what": "requests", "amount": "100000000", "per": "1m"},
    {"what": "tokens", "amount": "100000000000", "per": "1m"},
)
TENANT = {"tenant_id": "default", "name": "benchmark", "limits": LIMITS}


def main() -> int:
    parser = argparse.ArgumentParser("python -m loadtests.gateway.whole")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--routes", type=Path, required=True, help="a routing table, as the controller writes it")
    parser.add_argument("--key-file", type=Path, required=True)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    environ = {**os.environ, "ROUNDHOUSE_HOME": str(given.home)}
    others = set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0) or os.sched_getaffinity(0)
    with contextlib.ExitStack() as stack:
        with children_on(others):
            stack.enter_context(child(["models.store.server", "--home", str(given.home)], environ))
            client = write(given.home, given.routes.read_text(), given.key_file.read_text().strip())
        threading.Thread(target=rule, args=(client, given.routes.read_bytes()), daemon=True).start()
        with children_on(others):
            stack.enter_context(child(["gateway.billing", "--home", str(given.home)], environ))
        words = ["gateway.server", "--home", str(given.home), "--port", str(given.port), "--access-log", "errors"]
        words += ["--workers", str(given.workers)]
        gateway = stack.enter_context(child(words, environ))
        return gateway.wait()


@contextlib.contextmanager
def child(words: Sequence[str], environ: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", *words], env=dict(environ), stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def write(home: Path, routes: str, key: str) -> redis.Redis:
    """What the gateway is to find: its routes, one key and its tenant. Raises redis.RedisError."""
    client = redis.Redis(unix_socket_path=str(home / "run" / "redis.sock"))
    give_up_s = time.monotonic() + START_S
    while True:
        try:
            client.ping()
            break
        except redis.ConnectionError:
            if time.monotonic() > give_up_s:
                raise
            time.sleep(0.02)
    digest = hashlib.sha256(key.encode()).hexdigest()
    client.hset(f"{PREFIX}:api-keys", digest, json.dumps(key_record()))
    client.hset(f"{PREFIX}:tenants", "default", json.dumps(TENANT))
    client.set(f"{PREFIX}:routes", routes)
    return client


def rule(client: redis.Redis, routes: bytes) -> None:
    """The controller's part: what the meter goes by. Of thousands of models those are on the GPU that are called."""
    found: Any = [model for model in json.loads(routes)["models"] if model["model_id"] in MODELS]
    occupants = tuple(
        Occupant(one["replica_id"], model["model_id"], "", one["memory_bytes"], Phase.SERVING)
        for model in found
        for one in model["replicas"]
    )
    size = sum(one.bytes for one in occupants)
    picture = GpuPicture(int(time.time() * 1e6), "gpu", "node", "owned", size, True, True, occupants)
    client.xadd(f"{PREFIX}:gpu-timeline", {"g": encode(picture)})
    while True:
        with contextlib.suppress(redis.RedisError):  # its end is that of the benchmark
            client.set(f"{PREFIX}:fleet", encode({"seq": 1, "updated_unix_s": time.time(), "nodes": []}))
        time.sleep(RULE_S)


def key_record() -> dict[str, Any]:
    return {"key_id": KEY_ID, "name": "benchmark", "scopes": ["inference"], "prefix": "rh-bench", "created_unix_s": 1.0}


if __name__ == "__main__":
    sys.exit(main())
