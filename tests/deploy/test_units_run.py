"""The commands of the units, run as systemd would: engines outlive every restart, and the sweep leaves nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.demo.make import make_demo_models
from tests.deploy.conftest import DEPLOY
from tests.deploy.unit_file import Unit
from tests.deploy.unit_runner import ROOT, UnitRunner, until_gone
from tests.e2e.service import free_port, processes_of, temporary_home, until

pytestmark = pytest.mark.e2e

START_ORDER = ("redis", "launcher", "ray-head", "control", "gateway")
SWEEP = "roundhouse-sweep.service"


def unit_of(name: str) -> str:
    return f"roundhouse-{name}.service"


class Installation:
    """The sample configuration with its demo model, on a free port."""

    def __init__(self, home: Path, folder: Path, units: dict[str, Unit]) -> None:
        self.home = home
        self.port = free_port()
        (home / "tmp").mkdir()
        make_demo_models(home / "models", only=["tiny-llama"], progress=lambda _: None)
        config = (DEPLOY / "etc" / "roundhouse.yaml").read_text()
        placed = config.replace("/var/lib/roundhouse", str(home)).replace("port: 8000", f"port: {self.port}")
        (folder / "roundhouse.yaml").write_text(placed)
        self.runner = UnitRunner(units, home, folder)

    def start(self) -> None:
        self.runner.start(SWEEP)
        for name in START_ORDER:
            self.runner.start(unit_of(name))
        self.inference = self.http(self.key("inference"))
        self.admin = self.http(self.key("admin"))
        until(self.ready, timeout_s=120)

    def ready(self) -> bool:
        try:
            return self.inference.get("/v1/models").status_code == 200
        except httpx.TransportError:
            return False

    def key(self, scope: str) -> str:
        command = [sys.executable, "-m", "gateway.cli", "keys", "create", scope, "--scope", scope, "--json"]
        environ = os.environ | {"ROUNDHOUSE_HOME": str(self.home), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environ, cwd=self.home, capture_output=True, text=True, check=True)
        return str(json.loads(done.stdout)["key"])

    def http(self, key: str) -> httpx.Client:
        url = f"http://127.0.0.1:{self.port}"
        return httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=120)

    def chat(self) -> str:
        body: dict[str, Any] = {"model": "tiny-llama", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
        answer = self.inference.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, f"{answer.text}\n{self.runner.log()}"
        return str(answer.json()["choices"][0]["message"]["content"])

    def engine(self) -> int:
        """The pid of the one engine, as soon as the controller knows it as ready."""

        def pid() -> int | None:
            rows = self.admin.get("/admin/v1/replicas").raise_for_status().json()["data"]
            found = [row["pid"] for row in rows if row["state"] == "ready"]
            return found[0] if len(found) == 1 else None

        return int(until(pid, timeout_s=60))


@pytest.fixture(scope="module")
def installation(units: dict[str, Unit], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with temporary_home() as home:
        made = Installation(home, tmp_path_factory.mktemp("etc"), units)
        try:
            made.start()
            yield made
        finally:
            made.runner.kill_all()
            made.runner.stop_commands(SWEEP)


@pytest.mark.parametrize("restarted", ["control", "launcher", "redis", "gateway", "ray-head"])
def test_an_engine_outlives_the_restart_of_any_unit(installation: Installation, restarted: str) -> None:
    assert installation.chat()
    engine = installation.engine()
    installation.runner.restart(unit_of(restarted))
    until(installation.ready, timeout_s=60)
    assert installation.chat()
    assert installation.engine() == engine


@pytest.mark.long  # 20 s
def test_stopped_in_order_engines_are_left_to_the_sweep(installation: Installation) -> None:
    installation.chat()
    engine = installation.engine()
    for name in reversed(START_ORDER):
        installation.runner.stop(unit_of(name))
    os.kill(engine, 0)  # still there
    installation.runner.stop_commands(SWEEP)
    assert until_gone(engine, timeout_s=5)
    assert processes_of(installation.home) == []
