"""Single parts for a process manager."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.service.parts import SOURCE_ROOT, environment
from gateway.service.processes import command_line
from models.home import INSTANCE_ENV, Home
from models.store.client import connect, unix_url
from tests.gateway.cli.conftest import Cli, Started
from tests.gateway.service.eventually import eventually


@pytest.mark.parametrize("name", ["redis", "launcher", "ray", "control", "gateway"])
def test_a_part_is_what_up_would_run(cli: Cli, home: Home, name: str) -> None:
    parts = {part["name"]: part["command"] for part in cli("up", "--dry-run", "--json").json["parts"]}
    shown = cli("part", name, "--dry-run", "--json").json
    assert shown["command"] == parts[name]
    assert shown["environment"][INSTANCE_ENV] == home.instance
    assert cli("part", name, "--dry-run").out.strip() == " ".join(parts[name])


@pytest.mark.parametrize("name", ["redis", "launcher", "ray"])
def test_parts_that_need_no_configuration_start_with_a_wrong_one(
    cli: Cli, tmp_path: Path, home: Home, name: str
) -> None:
    (tmp_path / "roundhouse.yaml").write_text("wrong")
    assert cli("part", name, "--dry-run").status == 0
    assert not home.config.exists()


def test_the_gateway_runs_where_no_gpu_can_be_seen(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.nvml import NvmlUnavailable

    def none() -> None:
        raise NvmlUnavailable("no driver")

    monkeypatch.setattr("models.nvml.probe", none)
    (tmp_path / "roundhouse.yaml").write_text("models: [{model_id: tiny, model_source: ./tiny}]\n")
    assert cli("part", "gateway", "--dry-run").status == 0
    assert cli("part", "control", "--dry-run", "--json").error["code"] == "no_gpu"


def test_the_command_becomes_the_part(start: Started, home: Home) -> None:
    env = {**environment(home), "ROUNDHOUSE_HOME": str(home.root)}
    process = start(sys.executable, "-m", "gateway.cli", "part", "redis", env=env, cwd=SOURCE_ROOT)
    client = connect(unix_url(home.redis_socket))
    eventually(lambda: home.redis_socket.exists() and client.ping(), "it answers")
    assert "redis-server" in command_line(process.pid), "the same process, so that a manager's signals reach it"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_a_part_that_cannot_be_started_says_why(cli: Cli, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/no/such/python")
    said = cli("part", "redis", "--json")
    assert (said.status, said.error["code"]) == (1, "start_failed")


def test_the_command_is_there_as_a_module(home: Home) -> None:
    command = [sys.executable, "-m", "gateway.cli", "down", "--json", "--home", str(home.root)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=SOURCE_ROOT, check=True)
    assert json.loads(done.stdout)["was_running"] is False
