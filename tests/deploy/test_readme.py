"""What the README tells an operator to type exists: units, commands with their options, make targets, files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from gateway.cli.app import app
from gateway.service.parts import DRAIN_TIMEOUT_S
from models.demo.make import MAKERS
from tests.deploy.conftest import DEPLOY
from tests.deploy.unit_file import Unit

README = (DEPLOY / "README.md").read_text()
REPOSITORY = DEPLOY.parent


def typed_lines() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def roundhouse_calls() -> list[list[str]]:
    """Arguments of each `sudo roundhouse ...`, alone, in a $(...) or before a pipe."""
    found = re.findall(r"sudo roundhouse ([^|)\n]+)", "\n".join(typed_lines()))
    return [shlex.split(call) for call in found]


def test_there_is_something_to_check() -> None:
    assert len(typed_lines()) > 25
    assert len(roundhouse_calls()) > 8


def test_every_unit_it_names_exists(units: dict[str, Unit]) -> None:
    named = set(re.findall(r"\broundhouse(?:-[a-z]+)*\.(?:service|target)\b", README))
    assert named == set(units)
    for word in re.findall(r"(?:systemctl \w+|journalctl -u) (roundhouse[\w-]*)(?=[\s`])", README):
        assert f"{word}.service" in units or f"{word}.target" in units


@pytest.mark.parametrize("call", roundhouse_calls(), ids=" ".join)
def test_every_command_it_tells_to_type_exists(call: list[str]) -> None:
    command = get_command(app)
    words = list(call)
    while words and hasattr(command, "commands"):
        name = words.pop(0)
        assert name in command.commands, f"roundhouse has no {name}"
        command = command.commands[name]
    options = {flag for parameter in command.params for flag in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"make -C /opt/roundhouse ([a-z-]+)", README))
    assert named
    assert named <= targets


def test_every_file_of_the_checkout_that_it_names_exists() -> None:
    named = set(re.findall(r"/opt/roundhouse/(helm-free-deploy/[\w./-]+)", README))
    assert named
    for path in named:
        assert (REPOSITORY / path).exists(), path


def test_every_option_of_the_script_exists() -> None:
    script = (DEPLOY / "install").read_text()
    for option in re.findall(r"helm-free-deploy/install (--[a-z-]+)", README):
        assert f"    {option})" in script


def test_the_demo_model_can_be_made_as_told() -> None:
    (only,) = re.findall(r"-m models\.demo /var/lib/roundhouse/models --only ([\w-]+)", README)
    assert only in MAKERS


def test_paths_in_the_table_are_those_that_the_script_makes() -> None:
    script = (DEPLOY / "install").read_text()
    for path in re.findall(r"^\| `(/[^`*]+)`", README, re.MULTILINE):
        folder, _, name = path.rpartition("/")
        assert path in script or (folder in script and name in script), path


def test_the_port_and_the_time_to_drain_are_the_real_ones() -> None:
    assert f"open answers get {DRAIN_TIMEOUT_S:g} s to end" in README
    config = (DEPLOY / "etc" / "roundhouse.yaml").read_text()
    assert set(re.findall(r"127\.0\.0\.1:(\d+)", README)) == set(re.findall(r"port: (\d+)", config))


def test_nothing_is_told_of_machines_that_are_not_the_readers() -> None:
    assert str(Path.home()) not in README.replace("/root`", "")
    assert "/tmp/" not in README
