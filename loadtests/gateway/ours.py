"""Roundhouse's own gateway, as ``roundhouse up`` starts it: keys, limits, routing, metering and metrics on.

The access log has failures only, as none of the others writes one line per request here. Beside it the gateway that
stands on its own (``roundhouse gateway``): keys, routing and metrics, and no limits, so that both show what those cost.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import redis

from loadtests.gateway.problems import CannotMeasure
from loadtests.gateway.scene import Running, Scene, Subject, ask, get, told
from loadtests.gateway.traffic import MODELS, model_name
from models.store.keys import Keys
from models.store.rollups import DAY_S, day_of

ROOT = Path(__file__).resolve().parents[2]
NAME = "roundhouse"
ALONE = "roundhouse gateway"
HOME = "home"  # in a pass's folder
METERED_S = 60.0  # what was metered has reached the store by then
POLL_S = 0.05
LIMIT_HEADERS = [
    f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")
]
_COUNTED = re.compile(
    r'^roundhouse_requests_total\{(?=[^}]*code="200")(?=[^}]*endpoint="chat.completions")[^}]*\} ([0-9.e+]+)$',
    re.MULTILINE,
)


def command(scene: Scene, port: int, folder: Path) -> Sequence[str]:
    routes, key = folder / "routes.json", folder / "key"
    routes.write_text(json.dumps(table(scene)))
    key.write_text(scene.key)
    key.chmod(0o600)
    return [
        *(sys.executable, "-m", "loadtests.gateway.whole", "--home", str(folder / HOME), "--port", str(port)),
        *("--workers", str(scene.workers), "--routes", str(routes), "--key-file", str(key)),
    ]


def table(scene: Scene) -> dict[str, object]:
    """As the controller writes it. Every model has a replica on each of the engine's ports, a quarter of a GPU each."""
    names = [*MODELS, *(model_name(number) for number in range(scene.models))]
    return {"version": 1, "models": [{**model(name, scene.engine_urls), "max_model_len": 8192} for name in names]}


def model(name: str, urls: Sequence[str]) -> dict[str, object]:
    replicas = [
        {
            "replica_id": f"{name}-{number}",
            "endpoint": url,
            "state": "ready",
            "memory_bytes": 1 << 30,
            "gpu_share": 0.25,
        }
        for number, url in enumerate(urls)
    ]
    return {"model_id": name, "tier": "gpu", "capabilities": ["generate"], "replicas": replicas}


def command_alone(scene: Scene, port: int, folder: Path) -> Sequence[str]:
    routes, keys = folder / "routes.json", folder / "keys.yaml"
    routes.write_text(json.dumps(routes_document(scene)))
    keys.write_text(keys_document(scene.key))
    return [
        *(sys.executable, "-m", "gateway.cli", "gateway", "--routes", str(routes), "--keys", str(keys)),
        *("--port", str(port), "--workers", str(scene.workers), "--access-log", "errors"),
    ]


def routes_document(scene: Scene) -> dict[str, object]:
    """Every model has a replica on each of the engine's ports."""
    names = [*MODELS, *(model_name(number) for number in range(scene.models))]
    upstreams = [{"url": url} for url in scene.engine_urls]
    return {"models": [{"model_id": name, "capabilities": ["generate"], "upstreams": upstreams} for name in names]}


def keys_document(key: str) -> str:
    digest = hashlib.sha256(key.encode()).hexdigest()
    return json.dumps({"keys": [{"name": "benchmark", "hash": digest}]})  # which is YAML as well


def environ(_folder: Path) -> Mapping[str, str]:
    return {"PYTHONPATH": str(ROOT)}


def subject(name: str = NAME) -> Subject:
    return Subject(name, lambda _scene: None, command_alone if name == ALONE else command, environ)


def check_everything_is_on(running: Running, key: str, *, whole: bool = True) -> None:
    """Keys are checked, models are looked up, requests are counted; of the ``whole`` gateway limits are told and usage
    is metered, too. Raises CannotMeasure when one is not."""
    before = counted(running)
    asked = {
        "a request without a key": (ask(running.port, ""), 401),
        "a request with a wrong key": (ask(running.port, f"{key}x"), 401),
        "a request for an unknown model": (ask(running.port, key, "no-such-model"), 404),
    }
    status, headers = told(running.port, key)
    asked["a plain request"] = (status, 200)
    for what, (found, wanted) in asked.items():
        if found != wanted:
            raise CannotMeasure(f"{what} was answered with {found} instead of {wanted}: not everything is on")
    if counted(running) != before + 1:
        raise CannotMeasure("its metrics do not count requests: not everything is on")
    if whole:
        if missing := [name for name in LIMIT_HEADERS if name not in headers]:
            raise CannotMeasure(f"an answer does not tell of limits ({missing[0]}): not everything is on")
        check_all_were_metered(running, before + 2)  # that for an unknown model, too


def check_all_were_counted(running: Running, answered: int, *, whole: bool = True) -> None:
    """After a pass: its metrics know of at least the answers that callers got, and of the ``whole`` gateway so does its
    meter, a while later. Raises CannotMeasure."""
    if (known := counted(running)) < answered:
        raise CannotMeasure(f"its metrics know of {known} requests, callers of {answered}: not everything is on")
    if whole:
        check_all_were_metered(running, answered)


def check_all_were_metered(running: Running, answered: int) -> None:
    """As many events are in the store. Raises CannotMeasure."""
    give_up_s = time.monotonic() + METERED_S
    while (known := metered(running)) < answered:
        if time.monotonic() > give_up_s:
            raise CannotMeasure(f"{known} requests were metered, callers know of {answered}: not everything is on")
        time.sleep(POLL_S)


def metered(running: Running) -> int:
    """Requests that the meter has shipped: settled, or not yet. Raises CannotMeasure."""
    keys, now_s = Keys(), time.time()
    client = redis.Redis(unix_socket_path=str(running.log.parent / HOME / "run" / "redis.sock"))
    try:
        with contextlib.closing(client), client.pipeline(transaction=True) as pipe:
            pipe.xlen(keys.usage_events)
            for day in {day_of(now_s - DAY_S), day_of(now_s)}:
                pipe.hgetall(keys.usage_day(day))
            waiting, *days = pipe.execute()
    except (OSError, redis.RedisError) as refused:
        raise CannotMeasure(f"its store cannot be read: {refused}") from None
    sums: Any = [item for day in days for item in day.items()]
    return int(waiting) + sum(int(value) for name, value in sums if name.endswith(b"\x1frequests"))


def counted(running: Running) -> int:
    """Successful chat requests, as its metrics say. Raises CannotMeasure."""
    try:
        text = get(running.port, "/metrics")
    except (OSError, http.client.HTTPException) as refused:
        raise CannotMeasure(f"its metrics cannot be read: {refused}") from None
    return int(sum(float(value) for value in _COUNTED.findall(text)))
