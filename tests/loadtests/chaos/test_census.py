from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loadtests.chaos.census import INSTANCE_ENV, Census, Process, count, kind_of

MARK = f"0123456789ab-test-{os.getpid()}"
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A marked process that does nothing; ``words`` stand in its command line, its output goes to ``log``."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*words: str, log: Path | None = None, mark: str = MARK) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", "import time; time.sleep(600)", *words]
        with (log or tmp_path / "log").open("wb") as output:
            process = subprocess.Popen(command, env={INSTANCE_ENV: mark}, stdout=output)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


def found(census: Census, pid: int) -> Process:
    """Forked already, it may not have become what it is to be."""
    give_up_s = time.monotonic() + 10
    while time.monotonic() < give_up_s:
        for process in census.look():
            if process.pid == pid:
                return process
    raise AssertionError("it is not found")


def test_processes_of_the_installation_are_found_by_their_mark(start: Start, tmp_path: Path) -> None:
    ours, other = start("raylet/raylet"), start("raylet/raylet", mark="another")
    census = Census(MARK, tmp_path / "engines")
    assert found(census, ours.pid).kind == "raylet"
    assert other.pid not in {process.pid for process in census.look()}
    assert count(census.look()) == {"raylet": 1}


def test_an_engine_is_a_child_of_the_zygote_that_writes_to_the_log_of_its_replica(start: Start, tmp_path: Path) -> None:
    logs = tmp_path / "engines"
    logs.mkdir()
    spare = start("models.runtimes.launcher.zygote")
    engine = start("models.runtimes.launcher.zygote", log=logs / "tiny-llama-80112d.log")
    census = Census(MARK, logs)
    assert (found(census, spare.pid).kind, found(census, spare.pid).replica) == ("zygote", "")
    assert found(census, engine.pid).replica == "tiny-llama-80112d"
    assert [process.pid for process in census.engines()] == [engine.pid]


def test_who_has_ended_is_not_there_even_while_nobody_has_waited_for_it(start: Start, tmp_path: Path) -> None:
    victim = start()
    census = Census(MARK, tmp_path)
    process = found(census, victim.pid)
    assert process.alive()
    assert process.send(signal.SIGKILL)
    while process.alive():
        time.sleep(0.001)
    assert census.look() == ()
    victim.wait()
    assert not process.send(signal.SIGKILL)


def test_a_process_that_has_the_pid_of_another_one_is_not_hit(start: Start, tmp_path: Path) -> None:
    bystander = start()
    there = found(Census(MARK, tmp_path), bystander.pid)
    earlier = Process(there.pid, there.start_ticks - 1, there.parent, there.kind)
    assert not earlier.alive()
    assert not earlier.send(signal.SIGKILL)
    assert bystander.poll() is None


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("python -m gateway.cli up --home /srv/r", "supervisor"),
        ("python -m gateway.server --home /srv/r --workers 2", "gateway"),
        ("python -m models.runtimes.launcher --socket /srv/r/run/launcher.sock", "launcher"),
        ("python -m models.runtimes.launcher.zygote --channel 9", "zygote"),
        ("redis-server unixsocket:/srv/r/run/redis.sock", "redis"),
        ("/site-packages/ray/core/src/ray/gcs/gcs_server --log_dir=/srv", "gcs"),
        ("/site-packages/ray/core/src/ray/raylet/raylet --raylet_socket_name=/srv", "raylet"),
        ("ray::ControllerActor", "controller"),
        ("ray::KeeperActor", "keeper"),
        ("python -m models.control --home /srv/r", "control"),
        ("ray::IDLE", "ray's own"),
        ("sleep 5", "other"),
    ],
)
def test_what_a_process_is_shows_in_its_command_line(command: str, kind: str) -> None:
    assert kind_of(command) == kind
