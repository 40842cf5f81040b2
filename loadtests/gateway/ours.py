"""Roundhouse's own gateway, as ``roundhouse up`` starts it: keys, limits, routing, metering and metrics on.

The access log has failures only, as none of the others writes one line per request here. Beside it the gateway that
stands on its own (``roundhouse gateway``): keys, routing and metrics, and no limits, so that both show what those cost.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from loadtests.gateway.problems import CannotMeasure
from loadtests.gateway.scene import Running, Scene, Subject, ask, get
from loadtests.gateway.traffic import MODELS, model_name

ROOT = Path(__file__).resolve().parents[2]
NAME = "roundhouse"
ALONE = "roundhouse gateway"
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
        *(sys.executable, "-m", "loadtests.gateway.whole", "--home", str(folder / "home"), "--port", str(port)),
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


def check_everything_is_on(running: Running, key: str) -> None:
    """Keys are checked, models are looked up, requests are counted. Raises CannotMeasure when one is not."""
    before = counted(running)
    asked = {
        "a request without a key": (ask(running.port, ""), 401),
        "a request with a wrong key": (ask(running.port, f"{key}x"), 401),
        "a request for an unknown model": (ask(running.port, key, "no-such-model"), 404),
        "a plain request": (ask(running.port, key), 200),
    }
    for what, (status, wanted) in asked.items():
        if status != wanted:
            raise CannotMeasure(f"{what} was answered with {status} instead of {wanted}: not everything is on")
    if counted(running) != before + 1:
        raise CannotMeasure("its metrics do not count requests: not everything is on")


def check_all_were_counted(running: Running, answered: int) -> None:
    """After a pass: its metrics know of at least the answers that callers got. Raises CannotMeasure."""
    if (known := counted(running)) < answered:
        raise CannotMeasure(f"its metrics know of {known} requests, callers of {answered}: not everything is on")


def counted(running: Running) -> int:
    """Successful chat requests, as its metrics say. Raises CannotMeasure."""
    try:
        text = get(running.port, "/metrics")
    except (OSError, http.client.HTTPException) as refused:
        raise CannotMeasure(f"its metrics cannot be read: {refused}") from None
    return int(sum(float(value) for value in _COUNTED.findall(text)))
