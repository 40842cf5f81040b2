"""Roundhouse is measured with everything on: what is off is noticed. The whole of it, and the gateway alone."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
import yaml

from loadtests.gateway import ours, whole
from loadtests.gateway.problems import CannotMeasure
from loadtests.gateway.scene import Running, Scene
from loadtests.gateway.traffic import MODELS
from models.home import Home
from models.store.api_keys import hash_key
from models.store.client import connect
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from models.store.records import KeyRecord, RouteTable
from models.store.tenancy import TenantRecord
from models.store.usage import GpuPicture
from tests.loadtests.gateway.conftest import EVERYWHERE

KEY = "rh-right"
T = TypeVar("T")


class Gateway(ThreadingHTTPServer):
    """Checks keys, looks models up, counts, tells of limits and meters, unless told otherwise."""

    daemon_threads = True

    def __init__(self, store: EmbeddedRedis) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.checks_keys = self.knows_models = self.counts = self.has_metrics = self.tells_limits = self.meters = True
        self.requests = 4
        self.store = connect(store.url)
        self.folder = store.home.root.parent
        self.store.flushall()
        for _ in range(self.requests):
            self.meter()

    def meter(self) -> None:
        if self.meters:
            self.store.xadd(Keys().usage_events, {"e": b"{}"})

    @property
    def running(self) -> Running:
        return Running(self.server_address[1], 0.1, 1, self.folder / "log")


class Handler(BaseHTTPRequestHandler):
    server: Gateway

    def do_POST(self) -> None:
        body: Any = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.server.checks_keys and self.headers.get("authorization") != f"Bearer {KEY}":
            return self._say(401, "")
        self.server.meter()
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
        if self.server.tells_limits:
            for name in ours.LIMIT_HEADERS:
                self.send_header(name, "9")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def store() -> Iterator[EmbeddedRedis]:
    """Where the whole gateway has its own."""
    folder = Path(tempfile.mkdtemp(prefix="rh-"))
    with EmbeddedRedis(Home(folder / ours.HOME)) as server:
        yield server
    shutil.rmtree(folder)


@pytest.fixture
def gateway(store: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    monkeypatch.setattr(ours, "METERED_S", 0.1)
    with Gateway(store) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
        server.store.close()


def scene(folder: Path, models: int = 0, workers: int = 1) -> Scene:
    return Scene(folder, (7001, 7002), KEY, EVERYWHERE, models=models, workers=workers)


def test_a_gateway_with_everything_on_passes(gateway: Gateway) -> None:
    ours.check_everything_is_on(gateway.running, KEY)
    assert ours.counted(gateway.running) == 5
    assert ours.metered(gateway.running) == 6


@pytest.mark.parametrize(
    ("off", "told"),
    [
        ("checks_keys", "a request without a key was answered with 200 instead of 401"),
        ("knows_models", "a request for an unknown model was answered with 200 instead of 404"),
        ("counts", "its metrics do not count requests"),
        ("has_metrics", "its metrics cannot be read"),
        ("tells_limits", "does not tell of limits .x-ratelimit-limit-requests"),
        ("meters", "4 requests were metered, callers know of 6"),
    ],
)
def test_what_is_off_is_told(gateway: Gateway, off: str, told: str) -> None:
    setattr(gateway, off, False)
    with pytest.raises(CannotMeasure, match=told):
        ours.check_everything_is_on(gateway.running, KEY)


def test_the_gateway_alone_has_no_limits_and_no_meter(gateway: Gateway) -> None:
    gateway.tells_limits = gateway.meters = False
    ours.check_everything_is_on(gateway.running, KEY, whole=False)
    ours.check_all_were_counted(gateway.running, 5, whole=False)
    gateway.counts = False
    with pytest.raises(CannotMeasure, match="do not count"):
        ours.check_everything_is_on(gateway.running, KEY, whole=False)


def test_every_answer_must_have_been_counted_and_metered(gateway: Gateway) -> None:
    ours.check_all_were_counted(gateway.running, 4)
    with pytest.raises(CannotMeasure, match="know of 4 requests, callers of 5"):
        ours.check_all_were_counted(gateway.running, 5)
    gateway.requests = 5
    with pytest.raises(CannotMeasure, match="4 requests were metered, callers know of 5"):
        ours.check_all_were_counted(gateway.running, 5)


def test_without_a_store_nothing_is_measured(gateway: Gateway, tmp_path: Path) -> None:
    gateway.folder = tmp_path
    with pytest.raises(CannotMeasure, match="its store cannot be read"):
        ours.check_all_were_counted(gateway.running, 4)


def test_the_whole_gateway_is_told_its_key_in_a_file(tmp_path: Path) -> None:
    command = ours.command(scene(tmp_path, workers=3), 8123, tmp_path)
    assert KEY not in " ".join(command)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert command[:3] == [sys.executable, "-m", "loadtests.gateway.whole"]
    assert command[command.index("--workers") + 1] == "3"
    assert command[command.index("--port") + 1] == "8123"
    assert command[command.index("--home") + 1] == str(tmp_path / ours.HOME)


def test_the_whole_gateway_finds_what_a_controller_writes(store: EmbeddedRedis, tmp_path: Path) -> None:
    keys = Keys()
    table = json.dumps(ours.table(scene(tmp_path, models=10)))
    with connect(store.url) as client:
        client.delete(keys.gpu_timeline)
        found: Any = whole.write(store.home.root, table, KEY)
        threading.Thread(target=whole.rule, args=(found, table.encode()), daemon=True).start()
        routes = decode(client.get(keys.routes), RouteTable)
        assert len(routes.models) == 10 + len(MODELS)
        assert all(len(model.replicas) == 2 for model in routes.models)
        key = decode(client.hget(keys.api_keys, hash_key(KEY)), KeyRecord)
        tenant = decode(client.hget(keys.tenants, key.tenant), TenantRecord)
        assert {rule.what for rule in tenant.limits} == {"requests", "tokens"}
        while not client.get(keys.fleet):
            time.sleep(0.005)
        ((_, fields),) = client.xrange(keys.gpu_timeline)
        picture = decode(fields[b"g"], GpuPicture)
        assert {one.model for one in picture.occupants} == set(MODELS)
        assert sum(one.bytes for one in picture.occupants) == picture.memory_bytes


def decode(raw: Any, kind: type[T]) -> T:
    assert raw is not None
    return msgspec.json.decode(raw, type=kind)


def test_the_key_is_only_in_a_hash(tmp_path: Path) -> None:
    command = ours.command_alone(scene(tmp_path, workers=3), 8123, tmp_path)
    keys = (tmp_path / "keys.yaml").read_text()
    assert KEY not in keys
    assert KEY not in " ".join(command)
    (key,) = yaml.safe_load(keys)["keys"]
    assert key["hash"] == hashlib.sha256(KEY.encode()).hexdigest()
    assert command[:4] == [sys.executable, "-m", "gateway.cli", "gateway"]
    assert command[command.index("--workers") + 1] == "3"
    assert command[command.index("--port") + 1] == "8123"


def test_every_model_is_on_every_engine(tmp_path: Path) -> None:
    ours.command_alone(scene(tmp_path, models=10_000), 8123, tmp_path)
    models = json.loads((tmp_path / "routes.json").read_text())["models"]
    assert len(models) == len({model["model_id"] for model in models}) == 10_000 + len(MODELS)
    urls = [{"url": "http://127.0.0.1:7001"}, {"url": "http://127.0.0.1:7002"}]
    assert all(model["upstreams"] == urls for model in models)
