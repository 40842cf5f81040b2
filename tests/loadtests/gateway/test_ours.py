"""Roundhouse is measured with everything on: what is off is noticed."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtests.gateway import ours
from loadtests.gateway.problems import CannotMeasure
from loadtests.gateway.scene import Running, Scene
from loadtests.gateway.traffic import MODELS
from tests.loadtests.gateway.conftest import EVERYWHERE

KEY = "rh-right"


class Gateway(ThreadingHTTPServer):
    """Checks keys, looks models up and counts, unless told otherwise."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.checks_keys = self.knows_models = self.counts = self.has_metrics = True
        self.requests = 4

    @property
    def running(self) -> Running:
        return Running(self.server_address[1], 0.1, 1, Path("log"))


class Handler(BaseHTTPRequestHandler):
    server: Gateway

    def do_POST(self) -> None:
        body: Any = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.server.checks_keys and self.headers.get("authorization") != f"Bearer {KEY}":
            return self._say(401, "")
        if self.server.knows_models and body["model"] not in MODELS:
            return self._say(404, "")
        if self.server.counts:
            self.server.requests += 1
        self._say(200, "{}")
        return None

    def do_GET(self) -> None:
        name = "roundhouse_requests_total"
        chat = 'endpoint="chat.completions"'
        lines = [
            f"# TYPE {name} counter",
            f'{name}{{code="200",{chat},model="m"}} {self.server.requests - 1}.0',
            f'{name}{{code="200",{chat},model="m-held"}} 1.0',
            f'{name}{{code="401",{chat},model="m"}} 9.0',
            f'{name}{{code="200",endpoint="other",model="unknown"}} 9.0',
        ]
        self._say(200 if self.server.has_metrics else 404, "\n".join(lines))

    def _say(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def scene(folder: Path, models: int = 0, workers: int = 1) -> Scene:
    return Scene(folder, (7001, 7002), KEY, EVERYWHERE, models=models, workers=workers)


def test_a_gateway_with_everything_on_passes(gateway: Gateway) -> None:
    ours.check_everything_is_on(gateway.running, KEY)
    assert ours.counted(gateway.running) == 5


@pytest.mark.parametrize(
    ("off", "told"),
    [
        ("checks_keys", "a request without a key was answered with 200 instead of 401"),
        ("knows_models", "a request for an unknown model was answered with 200 instead of 404"),
        ("counts", "its metrics do not count requests"),
        ("has_metrics", "its metrics cannot be read"),
    ],
)
def test_what_is_off_is_told(gateway: Gateway, off: str, told: str) -> None:
    setattr(gateway, off, False)
    with pytest.raises(CannotMeasure, match=told):
        ours.check_everything_is_on(gateway.running, KEY)


def test_every_answer_must_have_been_counted(gateway: Gateway) -> None:
    ours.check_all_were_counted(gateway.running, 4)
    with pytest.raises(CannotMeasure, match="know of 4 requests, callers of 5"):
        ours.check_all_were_counted(gateway.running, 5)


def test_the_key_is_only_in_a_hash(tmp_path: Path) -> None:
    command = ours.command(scene(tmp_path, workers=3), 8123, tmp_path)
    keys = (tmp_path / "keys.yaml").read_text()
    assert KEY not in keys
    assert KEY not in " ".join(command)
    (key,) = yaml.safe_load(keys)["keys"]
    assert key["hash"] == hashlib.sha256(KEY.encode()).hexdigest()
    assert command[:4] == [sys.executable, "-m", "gateway.cli", "gateway"]
    assert command[command.index("--workers") + 1] == "3"
    assert command[command.index("--port") + 1] == "8123"


def test_every_model_is_on_every_engine(tmp_path: Path) -> None:
    ours.command(scene(tmp_path, models=10_000), 8123, tmp_path)
    models = json.loads((tmp_path / "routes.json").read_text())["models"]
    assert len(models) == len({model["model_id"] for model in models}) == 10_000 + len(MODELS)
    urls = [{"url": "http://127.0.0.1:7001"}, {"url": "http://127.0.0.1:7002"}]
    assert all(model["upstreams"] == urls for model in models)
