"""How a worker is put together, and what another table means for it; no socket is opened."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway.errors import GatewayError, MethodNotAllowed, NotFound, Unauthorized
from gateway.exchange import Exchange
from gateway.plane.plane import Plane
from gateway.standalone.app import Deps, Traffic, create
from gateway.standalone.reading import read_table
from models.catalog.errors import ConfigError
from models.store.api_keys import hash_key

pytestmark = pytest.mark.anyio


def model(name: str, *urls: str, **upstream: Any) -> dict[str, Any]:
    return {"model_id": name, "upstreams": [{"url": url, **upstream} for url in urls]}


@pytest.fixture
def routes(tmp_path: Path) -> Path:
    return tmp_path / "routes.json"


def write(path: Path, *models: dict[str, Any], **limits: Any) -> Path:
    path.write_text(json.dumps({"models": models, "limits": limits}))
    return path


def traffic_of(plane: Plane) -> Traffic:
    return Traffic((plane.limits, plane.caps), plane.admission.routes, plane.admission, plane.upstreams)


async def test_what_the_file_says_is_in_force(routes: Path) -> None:
    write(routes, model("m", "http://a", "http://b", api_key_env="K"), max_body="1KiB", caps={"n": 3})
    plane, reload = create(Deps(routes=routes, environment={"K": "sk"}))
    assert [each.endpoint for each in plane.admission.find("m").replicas] == ["http://a", "http://b"]
    assert plane.upstreams.pool("http://a").extra_lines == b"authorization: Bearer sk\r\n"
    assert (plane.limits.max_body_bytes, plane.caps.n) == (1024, 3)
    assert not reload.rejected


async def test_another_table_replaces_all_of_the_first(routes: Path) -> None:
    plane, _ = create(Deps(routes=write(routes, model("m", "http://a"), model("n", "http://b"))))
    before = plane.upstreams.pool("http://b")
    write(routes, model("n", "http://b", headers={"x-team": "t"}), model("o", "http://c"))
    traffic_of(plane).take(read_table(routes, {}))
    assert {each.model_id for each in plane.admission.routes.models} == {"n", "o"}
    with pytest.raises(GatewayError, match="'m' does not exist"):
        plane.admission.find("m")
    assert plane.upstreams.pool("http://b") is before, "its connections stay"
    assert before.extra_lines == b"x-team: t\r\n"
    assert plane.admission.routes.version == 2


async def test_limits_that_changed_are_named_and_not_taken(routes: Path) -> None:
    plane, _ = create(Deps(routes=write(routes, model("m", "http://a"))))
    for limits, warned in (({}, False), ({"max_body": "1KiB"}, True), ({"caps": {"n": 1}}, True)):
        write(routes, model("m", "http://a"), **limits)
        with structlog.testing.capture_logs() as logs:
            traffic_of(plane).take(read_table(routes, {}))
        assert any(each["log_level"] == "warning" for each in logs) is warned
    assert plane.limits.max_body_bytes == 8 << 20


async def test_wrong_files_are_refused_at_the_start(routes: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"routes\.json"):
        create(Deps(routes=routes))
    write(routes, model("m", "http://a", api_key_env="NOBODY"))
    with pytest.raises(ConfigError, match="NOBODY"):
        create(Deps(routes=routes, environment={}))
    with pytest.raises(ConfigError, match=r"keys\.yaml"):
        create(Deps(routes=write(routes, model("m", "http://a")), keys=tmp_path / "keys.yaml"))


# -- what is asked besides inference -----------------------------------------------------------------------------------


class Call:
    """One call of the control application."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""

    async def __call__(self, path: str, method: str = "GET", key: str = "") -> Call:
        headers = [(b"authorization", f"Bearer {key}".encode())] if key else []
        scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "headers": headers,
        }
        scope |= {"query_string": b"", "root_path": "", "http_version": "1.1"}
        scope["state"] = {"exchange": Exchange("r", scope["method"], scope["path"], 0.0)}
        await self._plane.control(scope, self._receive, self._send)
        return self

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    async def _receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers, self.body = message["status"], dict(message["headers"]), b""
        else:
            self.body += message.get("body", b"")


@pytest.fixture
def call(routes: Path, tmp_path: Path) -> Call:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [{"name": "a", "hash": hash_key("rh-a")}]}))
    plane, _ = create(Deps(routes=write(routes, model("org/m", "http://a"), model("n", "http://b")), keys=keys))
    return Call(plane)


async def test_probes_and_metrics_are_open_to_all(call: Call) -> None:
    assert (await call("/health")).json == {"status": "ok"}
    assert (await call("/readyz")).json == {"status": "ready", "routes_version": 1, "models": 2, "routes": "in_force"}
    assert set((await call("/version")).json) == {"version"}
    assert b"roundhouse_routes_version 1.0" in (await call("/metrics")).body


async def test_models_are_shown_to_those_who_may_call_them(call: Call) -> None:
    listed = (await call("/v1/models", key="rh-a")).json
    assert (listed["object"], [each["id"] for each in listed["data"]]) == ("list", ["org/m", "n"])
    assert (await call("/v1/models/org/m", key="rh-a")).json["id"] == "org/m"
    for path in ("/v1/models", "/v1/models/n"):
        with pytest.raises(Unauthorized):
            await call(path)


async def test_what_is_not_there_and_what_is_not_taken(call: Call) -> None:
    for path in ("/", "/admin/v1/models", "/healthz", "/v1/modelsx", "/docs"):
        with pytest.raises(NotFound):
            await call(path)
    with pytest.raises(MethodNotAllowed) as refused:
        await call("/health", "POST")
    assert refused.value.allowed == "GET, HEAD, OPTIONS"
    assert ((await call("/health", "OPTIONS")).status, call.headers) == (204, {b"allow": b"GET, HEAD, OPTIONS"})
