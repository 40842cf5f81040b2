"""The units say what the parts need: the right command, the right order, and a stop that does not end engines."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from gateway.cli.errors import AskedWrongly
from gateway.service import ray_head
from gateway.service.parts import DRAIN_TIMEOUT_S, part_names
from models.home import Home
from models.store.client import URL_ENV
from tests.deploy.conftest import DEPLOY, Machine
from tests.deploy.unit_file import Unit, UnitError, read_units

HOME = Path("/var/lib/roundhouse")
COMMAND = "/opt/roundhouse/.venv/bin/roundhouse"
CONFIG = "/etc/roundhouse/roundhouse.yaml"
UNIT_OF = {
    "redis": "roundhouse-redis.service",
    "launcher": "roundhouse-launcher.service",
    "ray": "roundhouse-ray-head.service",
    "control": "roundhouse-control.service",
    "gateway": "roundhouse-gateway.service",
    "meter": "roundhouse-meter.service",
    "door": "roundhouse-door.service",
    "member": "roundhouse-member.service",
}
SWEEP = "roundhouse-sweep.service"
Units = dict[str, Unit]


def complaints(folder: Path) -> list[str]:
    """What systemd finds wrong with the units of a folder; where it is not installed, what reading them finds."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return _complaints_by_reading(folder)
    environ = os.environ | {"SYSTEMD_UNIT_PATH": f"{folder}:"}
    files = [str(file) for file in folder.iterdir() if file.is_file()]
    command = [analyze, "verify", "--man=no", *files]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    found = [line for line in (done.stdout + done.stderr).splitlines() if "roundhouse" in line]
    return found or ([f"exit status {done.returncode}"] if done.returncode else [])


def _complaints_by_reading(folder: Path) -> list[str]:
    try:
        found = read_units(folder)
    except UnitError as problem:
        return [str(problem)]
    commands = {word for unit in found.values() for word in unit.words("ExecStart")[:1]}
    return [f"{command} is not executable" for command in commands if not os.access(command, os.X_OK)]


FINDERS = pytest.mark.parametrize("find", [complaints, _complaints_by_reading])


@FINDERS
def test_nothing_is_wrong_with_the_units_as_installed(machine: Machine, find: Callable[[Path], list[str]]) -> None:
    assert machine.install().returncode == 0
    assert find(machine.units) == []


@FINDERS
@pytest.mark.parametrize("file", ["roundhouse-gateway.service", "roundhouse-.service.d/10-common.conf"])
def test_a_misspelt_setting_would_be_found(machine: Machine, find: Callable[[Path], list[str]], file: str) -> None:
    machine.install()
    with (machine.units / file).open("a") as unit:
        unit.write("KilMode=process\n")
    assert "KilMode" in " ".join(find(machine.units))


@FINDERS
def test_a_command_that_is_not_there_would_be_found(machine: Machine, find: Callable[[Path], list[str]]) -> None:
    machine.install()
    (machine.prefix / ".venv" / "bin" / "roundhouse").unlink()
    assert "not executable" in " ".join(find(machine.units))


def test_each_part_has_its_unit_and_its_command(units: Units) -> None:
    assert set(part_names()) == set(UNIT_OF)
    for part, name in UNIT_OF.items():
        assert units[name].settings["ExecStart"] == [f"{COMMAND} part {part} --config {CONFIG}"]


def test_the_target_is_all_of_them(units: Units) -> None:
    assert set(units) == {"roundhouse.target", SWEEP, *UNIT_OF.values()}
    assert set(units["roundhouse.target"].words("Wants")) == set(units) - {"roundhouse.target"}
    assert units["roundhouse.target"].words("WantedBy") == ["multi-user.target"]


def test_stopping_the_target_stops_every_part_and_waits_for_it(units: Units) -> None:
    for name in set(units) - {"roundhouse.target"}:
        assert "roundhouse.target" in units[name].words("PartOf")
        assert "roundhouse.target" in units[name].words("After")


def test_every_part_runs_as_the_user_in_the_environment_that_up_gives_it(units: Units) -> None:
    wanted = Home(HOME).environment()
    given_by_the_command = {"ROUNDHOUSE_INSTANCE"}
    for name in UNIT_OF.values():
        assert units[name].one("User") == units[name].one("Group") == "roundhouse"
        found = units[name].environment()
        assert {key: found.get(key) for key in wanted.keys() - given_by_the_command} == {
            key: wanted[key] for key in wanted.keys() - given_by_the_command
        }
        assert found["TMPDIR"].startswith(f"{HOME}/")
        assert units[name].words("EnvironmentFile") == ["/etc/roundhouse/roundhouse.env"]


def test_parts_write_to_the_state_folder_and_nowhere_else(units: Units) -> None:
    assert Home(HOME).run.is_relative_to(HOME)  # sockets too: its path is short enough
    for name in (*UNIT_OF.values(), SWEEP):
        assert units[name].one("ProtectSystem") == "strict"
        assert units[name].words("ReadWritePaths") == [str(HOME)]
        assert units[name].one("NoNewPrivileges") == "yes"
        assert units[name].one("CapabilityBoundingSet") == ""
        assert ("PrivateTmp" in units[name].settings) != ("TemporaryFileSystem" in units[name].settings)


def test_whatever_fails_comes_back_but_a_wrong_configuration(units: Units) -> None:
    for name in UNIT_OF.values():
        assert units[name].one("Restart") == "on-failure"
        assert units[name].one("StartLimitIntervalSec") == "0"
        assert units[name].one("RestartPreventExitStatus") == str(AskedWrongly.exit_code)


def test_engines_outlive_the_launcher(units: Units) -> None:
    launcher = units[UNIT_OF["launcher"]]
    assert launcher.one("KillMode") == "process"
    assert launcher.one("OOMPolicy") == "continue"
    # A private /tmp of systemd's is deleted when the unit stops, with engines still in it.
    assert "PrivateTmp" not in launcher.settings
    assert all(units[name].settings.get("KillMode") != ["process"] for name in units if name != launcher.name)


def test_engines_outlive_the_controller(units: Units) -> None:
    """It ends all engines on the signals that it handles, so it has to be stopped by one that it does not."""
    handled = (DEPLOY.parent / "models" / "control" / "__main__.py").read_text()
    signal = units[UNIT_OF["control"]].one("KillSignal")
    assert "SIGTERM" in handled
    assert signal not in handled
    assert signal == "SIGHUP"  # a clean end in systemd's eyes


def test_the_controller_joins_each_new_ray(units: Units) -> None:
    assert UNIT_OF["ray"] in units[UNIT_OF["control"]].words("PartOf")
    assert UNIT_OF["ray"] in units[UNIT_OF["control"]].words("After")


def test_the_sweep_is_first_to_start_and_so_last_to_stop(units: Units) -> None:
    sweep = units[SWEEP]
    assert set(sweep.words("Before")) == set(UNIT_OF.values())
    assert sweep.one("RemainAfterExit") == "yes"
    assert sweep.one("RefuseManualStop") == "yes"
    assert sweep.settings["ExecStop"] == [f"{COMMAND} down"]
    assert sweep.words("ExecStart")[0] != COMMAND  # starting must end nothing


def test_the_gateway_stops_before_what_it_needs_and_waits_for_nothing(units: Units) -> None:
    gateway = units[UNIT_OF["gateway"]]
    assert set(gateway.words("After")) >= set(UNIT_OF.values()) - {gateway.name}
    assert "Requires" not in gateway.settings
    assert int(gateway.one("TimeoutStopSec")) > DRAIN_TIMEOUT_S


def test_started_means_that_others_can_connect(units: Units) -> None:
    home = Home(HOME)
    for part, file in (("redis", home.redis_socket), ("ray", ray_head.started_file(home))):
        unit = units[UNIT_OF[part]]
        assert unit.one("ExecStartPre") == f"/bin/rm -f {file}"  # one of an earlier run says nothing
        assert f" {file} ]" in unit.one("ExecStartPost")
        assert "$MAINPID" in unit.one("ExecStartPost")  # does not wait for a process that has died


def skips(unit: Unit, role: str | None, folder: Path) -> bool:
    """Whether systemd would skip it on a machine with this role, by its own conditions on that."""
    file = folder / "cluster.json"
    if role is None:
        file.unlink(missing_ok=True)
    else:
        file.write_bytes(msgspec.json.format(msgspec.json.encode({"role": role, "head": "10.0.0.1"})))
    conditions = [line for line in unit.settings.get("ExecCondition", []) if "cluster.json" in line]
    commands = [shlex.split(line.replace(str(HOME), str(folder))) for line in conditions]
    return any(subprocess.run(command, check=False).returncode for command in commands)


def test_on_a_machine_of_a_cluster_only_what_belongs_there_is_started(units: Units, tmp_path: Path) -> None:
    def started(role: str | None) -> set[str]:
        return {part for part, name in UNIT_OF.items() if not skips(units[name], role, tmp_path)}

    alone = {"redis", "launcher", "ray", "control", "gateway", "meter"}
    assert started(None) == alone
    assert started("head") == alone | {"door"}
    assert started("node") == {"launcher", "member", "gateway", "meter"}


def test_the_store_of_a_head_can_be_reached_from_outside(units: Units) -> None:
    assert "PrivateNetwork" not in units[UNIT_OF["redis"]].settings


def test_what_the_operator_brings_is_not_started_here(units: Units) -> None:
    assert units[UNIT_OF["redis"]].one("ExecCondition") == f"/bin/sh -c 'test -z \"${URL_ENV}\"'"
    assert units[UNIT_OF["ray"]].one("ExecCondition") == f"/bin/sh -c 'test -z \"${ray_head.ADDRESS_ENV}\"'"


@pytest.mark.parametrize(
    "setting", ["PrivateDevices", "ProtectClock", "MemoryDenyWriteExecute", "RemoveIPC", "Requires"]
)
def test_settings_that_would_break_engines_are_not_used(units: Units, setting: str) -> None:
    assert not [name for name, unit in units.items() if setting in unit.settings]
