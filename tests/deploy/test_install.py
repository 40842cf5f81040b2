"""The script puts everything in its place, tells beforehand what it would do, and keeps what an operator wrote."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from models.catalog.config import load_config
from models.catalog.units import parse_bytes
from models.demo.catalog import DEMO_CARDS
from tests.deploy.conftest import DEPLOY, Machine
from tests.deploy.unit_file import read_units


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def dry_run(script: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(script), "--dry-run", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_script_is_plain_sh() -> None:
    subprocess.run(["sh", "-n", str(DEPLOY / "install")], check=True)
    assert os.access(DEPLOY / "install", os.X_OK)


def test_everything_lands_where_the_readme_says(machine: Machine) -> None:
    done = machine.install()
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    systemd = {str(path.relative_to(DEPLOY / "systemd")) for path in (DEPLOY / "systemd").rglob("*") if path.is_file()}
    assert files_below(machine.root) == {
        *(f"etc/systemd/system/{name}" for name in systemd),
        "etc/roundhouse/roundhouse.env",
        "etc/roundhouse/roundhouse.yaml",
        "usr/local/sbin/roundhouse",
        "var/lib/roundhouse/roundhouse.yaml",
    }
    assert "systemctl enable --now roundhouse.target" in done.stderr


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        ("etc/roundhouse", 0o750),
        ("etc/roundhouse/roundhouse.env", 0o640),
        ("etc/roundhouse/roundhouse.yaml", 0o640),
        ("var/lib/roundhouse", 0o700),
        ("var/lib/roundhouse/tmp", 0o700),
        ("var/lib/roundhouse/models", 0o700),
        ("etc/systemd/system/roundhouse.target", 0o644),
        ("usr/local/sbin/roundhouse", 0o755),
    ],
)
def test_state_and_secrets_are_not_readable_by_all(machine: Machine, path: str, mode: int) -> None:
    machine.install()
    assert stat.S_IMODE((machine.root / path).stat().st_mode) == mode


def test_units_name_the_place_of_the_checkout_and_the_user(machine: Machine) -> None:
    machine.install("--user", "models")
    units = read_units(machine.units)
    gateway = units["roundhouse-gateway.service"]
    assert gateway.words("ExecStart")[0] == f"{machine.prefix}/.venv/bin/roundhouse"
    assert (gateway.one("User"), gateway.one("Group")) == ("models", "models")
    assert "/opt/roundhouse" not in "".join(file.read_text() for file in machine.units.glob("*.service"))
    assert "runuser -u models" in (machine.root / "usr/local/sbin/roundhouse").read_text()


def test_a_second_run_renews_the_units_and_keeps_the_configuration(machine: Machine) -> None:
    machine.install()
    config = machine.root / "etc/roundhouse/roundhouse.yaml"
    unit = machine.units / "roundhouse-gateway.service"
    config.write_text("mine")
    unit.write_text("old")
    done = machine.install()
    assert config.read_text() == "mine"
    assert f"kept {config}" in done.stderr
    assert "ExecStart" in unit.read_text()


def test_a_dry_run_lists_everything_and_does_nothing(machine: Machine) -> None:
    done = machine.install("--dry-run")
    assert done.returncode == 0
    assert not machine.root.exists()
    assert "nothing has been done" in done.stderr
    for name in files_below(DEPLOY / "systemd"):
        assert f"write {machine.units / name} (mode 0644)" in done.stdout


def test_a_dry_run_for_this_machine_names_user_folders_and_systemd() -> None:
    before = Path("/etc/systemd/system/roundhouse.target").exists()
    done = dry_run(DEPLOY / "install", "--user", "nobody-has-this-name")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("useradd --system ") and line.endswith(" nobody-has-this-name") for line in lines)
    assert "chmod 0700 /var/lib/roundhouse" in lines
    assert "chown root:nobody-has-this-name /etc/roundhouse" in lines
    assert lines[-1] == "systemctl daemon-reload"
    assert Path("/etc/systemd/system/roundhouse.target").exists() == before


def test_remove_takes_units_and_command_and_leaves_the_rest(machine: Machine) -> None:
    machine.install()
    (machine.units / "other.service").write_text("")
    assert machine.install("--remove").returncode == 0
    assert files_below(machine.root) == {
        "etc/systemd/system/other.service",
        "etc/roundhouse/roundhouse.env",
        "etc/roundhouse/roundhouse.yaml",
        "var/lib/roundhouse/roundhouse.yaml",
    }


def test_removing_stops_the_service_first() -> None:
    lines = dry_run(DEPLOY / "install", "--remove").stdout.splitlines()
    assert lines[0] == "systemctl disable --now roundhouse.target"
    assert lines[-1] == "systemctl daemon-reload"


@pytest.mark.parametrize("options", [["--what"], ["--user"], ["extra"]])
def test_wrong_options_are_refused(machine: Machine, options: list[str]) -> None:
    done = machine.install(*options)
    assert done.returncode == 2
    assert done.stderr
    assert not machine.root.exists()


def test_a_path_that_units_cannot_hold_is_refused(tmp_path: Path) -> None:
    odd = tmp_path / "with space"
    shutil.copytree(DEPLOY, odd / "helm-free-deploy")
    done = dry_run(odd / "helm-free-deploy" / "install")
    assert done.returncode == 1
    assert "letters, digits and . _ - only" in done.stderr


@pytest.mark.parametrize("verb", ["up", "down", "part"])
def test_the_command_leaves_the_whole_to_systemd(machine: Machine, verb: str) -> None:
    machine.install()
    command = machine.root / "usr/local/sbin/roundhouse"
    done = subprocess.run(["sh", str(command), verb], capture_output=True, text=True, timeout=10, check=False)
    expected = (2, "systemctl start|stop roundhouse.target") if os.geteuid() == 0 else (1, "sudo roundhouse")
    assert done.returncode == expected[0]
    assert expected[1] in done.stderr


@pytest.mark.parametrize("options", [[], ["10.0.0.1"], ["10.0.0.1", "--detach"]])
def test_the_command_joins_no_cluster_by_itself(machine: Machine, options: list[str]) -> None:
    machine.install()
    command = machine.root / "usr/local/sbin/roundhouse"
    done = subprocess.run(
        ["sh", str(command), "join", *options], capture_output=True, text=True, timeout=10, check=False
    )
    expected = (2, "--setup-only") if os.geteuid() == 0 else (1, "sudo roundhouse")
    assert (done.returncode, expected[1] in done.stderr) == (expected[0], True)


def test_the_first_configuration_is_a_good_one_and_serves_a_demo_model(machine: Machine) -> None:
    machine.install()
    config = load_config(machine.root / "etc/roundhouse/roundhouse.yaml")
    (card,) = config.models
    (demo,) = (card for card in DEMO_CARDS if card.model_id == "tiny-llama")
    assert card.model_id == demo.model_id
    assert config.gateway.host == "127.0.0.1"
    (raw,) = yaml.safe_load((DEPLOY / "etc" / "roundhouse.yaml").read_text())["models"]
    assert sum(parse_bytes(size) for size in raw["declared"].values()) == demo.footprint_mib * 2**20
    assert raw["model_source"] == "/var/lib/roundhouse/models/tiny-llama"


def test_the_environment_file_means_the_same_to_systemd_and_to_sh(tmp_path: Path) -> None:
    text = (DEPLOY / "etc" / "roundhouse.env").read_text()
    assert all(line.startswith("#") or not line for line in text.splitlines())  # nothing is set until somebody wants it
    used = tmp_path / "used.env"
    used.write_text(text.replace("#ROUNDHOUSE_", "ROUNDHOUSE_"))
    shown = subprocess.run(
        ["sh", "-c", 'set -a; . "$1"; env', "sh", str(used)], env={}, capture_output=True, text=True, check=True
    ).stdout
    assert "ROUNDHOUSE_REDIS_URL=rediss://user:password@redis.internal:6380/0" in shown
    assert "ROUNDHOUSE_RAY_ADDRESS=10.0.0.5:6379" in shown
