"""The command line as a whole: fast help, exit statuses, one JSON document whatever happens."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from gateway.cli.app import app
from gateway.service.parts import SOURCE_ROOT
from tests.gateway.cli.conftest import Cli

HEAVY = (
    "rich",
    "redis",
    "pydantic",
    "fastapi",
    "aiohttp",
    "httpx",
    "ray",
    "torch",
    "vllm",
    "yaml",
    "asyncio",
    "urllib.request",
)

ELSEWHERE = ("loadtest",)  # a program of its own tells its help: test_loadtest.py


def roundhouse(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(SOURCE_ROOT)}
    command = [sys.executable, "-X", "importtime", "-m", "gateway.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def commands() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [(info.name,) for info in app.registered_commands if info.name]
    for group in app.registered_groups:
        assert group.name
        assert group.typer_instance
        for info in group.typer_instance.registered_commands:
            assert info.callback
            found.append((group.name, info.name or info.callback.__name__))
    return found


def test_help_loads_nothing_heavy() -> None:
    """What keeps it under 0.2 s; measured as what is imported, for a busy machine must not fail a test."""
    done = roundhouse("--help")
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "typer" in imported
    assert not imported.intersection(HEAVY)


def test_help_names_every_command(cli: Cli) -> None:
    shown = cli("--help").out
    for name in (*(command[0] for command in commands()), "up", "down", "models", "keys"):
        assert f"  {name} " in shown
    assert cli().out == shown, "nothing asked: the help is the answer"


@pytest.mark.parametrize("command", [one for one in commands() if one != ELSEWHERE], ids=" ".join)
def test_every_command_has_help_and_json(cli: Cli, command: tuple[str, ...]) -> None:
    shown = cli(*command, "--help")
    assert shown.status == 0
    assert "--json" in shown.out


@pytest.mark.parametrize(
    "arguments",
    [("bogus",), ("models", "bogus"), ("gpus", "--bogus"), ("up", "--port", "x"), ("up", "--port", "70000"), ("keys",),
     ("decisions", "--limit", "0"), ("part",), ("part", "bogus"), ("models", "wake")],
)  # fmt: skip
def test_what_is_asked_wrongly_ends_with_2(cli: Cli, arguments: tuple[str, ...]) -> None:
    said = cli(*arguments)
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("error: ")
    as_json = cli(*arguments, "--json")
    assert as_json.status == 2
    assert as_json.error["code"] == "usage"
    assert as_json.err == ""


def test_versions(cli: Cli) -> None:
    found = cli("version", "--json").json
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"roundhouse", "ray", "torch"} <= found.keys()
    assert cli("version").out.startswith("roundhouse ")


def test_the_command_as_a_process_ends_with_its_status() -> None:
    done = roundhouse("bogus", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "usage"
