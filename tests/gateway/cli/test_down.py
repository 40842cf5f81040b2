"""``down`` and ``status`` of a service that really runs, with tiny parts."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli import down
from gateway.cli.errors import CliError
from gateway.service import record
from models.home import Home
from tests.gateway.cli.conftest import Cli, Started
from tests.gateway.service.eventually import eventually
from tests.gateway.service.test_run import Service, brood


@pytest.fixture(autouse=True)
def nothing_of_the_brood_stays(home: Home) -> Iterator[None]:
    yield
    for pid in brood(home):
        os.kill(pid, signal.SIGKILL)


def test_a_service_that_runs_is_ended(cli: Cli, start: Started, home: Home) -> None:
    service = Service(start, home)
    service.says("it serves")
    listed = cli("down", "--dry-run", "--json").json["processes"]
    assert service.process.pid in {entry["pid"] for entry in listed}
    assert service.process.poll() is None, "a dry run ends nothing"
    done = cli("down", "--json")
    assert done.status == 0
    assert done.json == {"home": str(home.root), "was_running": True, "forced": False, "leftovers_ended": 0}
    assert service.ends() == 0
    assert record.processes(home) == frozenset()
    assert cli("down").out == f"Nothing runs for {home.root}.\n"


def test_nothing_runs_and_that_is_fine(cli: Cli, home: Home) -> None:
    done = cli("down", "--json")
    assert (done.status, done.json["was_running"], done.json["leftovers_ended"]) == (0, False, 0)


def test_a_folder_that_was_never_used_is_not_made(cli: Cli, tmp_path: Path) -> None:
    assert cli("down", "--home", str(tmp_path / "never")).status == 0
    assert not (tmp_path / "never").exists()


def test_what_a_crash_has_left_is_swept(cli: Cli, start: Started, home: Home) -> None:
    service = Service(start, home)
    service.says("it serves")
    os.kill(service.process.pid, signal.SIGSTOP)
    guards = [one.pid for one in record.processes(home) if "guard" in Path(f"/proc/{one.pid}/cmdline").read_text()]
    for pid in guards:
        os.kill(pid, signal.SIGKILL)
    service.process.kill()
    service.process.wait()
    assert record.processes(home)
    done = cli("down")
    assert done.status == 0
    assert "was gone; ended" in done.out
    assert record.processes(home) == frozenset()
    assert record.read(home) is None


def test_a_supervisor_that_hangs_is_killed(cli: Cli, start: Started, home: Home) -> None:
    service = Service(start, home)
    service.says("it serves")
    os.kill(service.process.pid, signal.SIGSTOP)
    outcome = down.end_all(home, wait_s=0.2)
    assert outcome["forced"]
    assert outcome["leftovers_ended"] > 0
    assert record.processes(home) == frozenset()


def test_a_service_that_starts_meanwhile_is_left_alone(home: Home) -> None:
    held = record.lock(home)
    try:
        with pytest.raises(CliError, match="started just now"), down._alone(home):
            raise AssertionError("not reached")
    finally:
        os.close(held)


def test_status_while_it_runs_but_does_not_answer(cli: Cli, start: Started, home: Home) -> None:
    service = Service(start, home)  # its gateway knows no admin API
    service.says("it serves")
    shown = cli("status", "--json")
    assert shown.status == 1
    assert shown.json["state"] == "serving"
    assert shown.json["url"] == f"http://127.0.0.1:{service.port}"
    assert {part["name"]: part["state"] for part in shown.json["parts"]} == {
        "redis": "ready",
        "gateway": "ready",
        "brood": "ready",
    }
    assert shown.json["error"]["code"] == "unreachable"
    said = cli("status")
    assert said.status == 1
    assert "serving for" in said.out
    assert "The gateway does not answer" in said.err
    service.process.terminate()
    assert service.ends() == 0


def test_status_after_it_has_ended(cli: Cli, start: Started, home: Home) -> None:
    service = Service(start, home)
    service.says("it serves")
    service.process.terminate()
    assert service.ends() == 0
    assert home.demo_env.exists(), "the URL in it leads nowhere now"
    eventually(lambda: cli("status", "--json").error["code"] == "not_running", "it is known to have ended")
    assert cli("status").status == 1
