"""Roundhouse's own gateway, as an operator starts it: keys, routing, metering and metrics on.

The access log has failures only, as none of the others writes one line per request here.
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
_COUNTED = re.compile(
    r'^roundhouse_requests_total\{(?=[^}]*code="200")(?=[^}]*endpoint="chat.completions")[^}]*\} ([0-9.e+]+)$',
    re.MULTILINE,
)


def command(scene: Scene, port: int, folder: Path) -> Sequence[str]:
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
    return Subject(name, lambda _scene: None, command, environ)


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
