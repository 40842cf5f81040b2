"""Only the service's own processes on this machine are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from loadtests.generator.strike import CannotStrike, strike
from loadtests.target import Target
from tests.loadtests.fake_service import FakeModel, FakeService


@pytest.fixture
def service() -> Iterator[FakeService]:
    with FakeService({"a": FakeModel(state="ready")}).running() as running:
        yield running


def process(marked: bool) -> subprocess.Popen[bytes]:
    environ = {"PATH": os.environ["PATH"], **({"ROUNDHOUSE_INSTANCE": "x"} if marked else {})}
    return subprocess.Popen([sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"], env=environ,
                            stdout=subprocess.PIPE)  # fmt: skip


@pytest.mark.parametrize("victim", ["engine", "worker", "controller"])
def test_a_part_of_the_service_is_killed(service: FakeService, victim: str) -> None:
    with process(marked=True) as part:
        assert part.stdout is not None
        part.stdout.readline()
        service.pids[victim] = part.pid
        assert strike(service.target, victim, {"a"}) == {"what": "kill", "detail": f"{victim}, process {part.pid}"}
        assert part.wait(20) == -signal.SIGKILL


def test_nobody_elses_process_is(service: FakeService) -> None:
    with process(marked=False) as other:
        assert other.stdout is not None
        other.stdout.readline()
        service.pids["engine"] = other.pid
        with pytest.raises(CannotStrike, match="no engine of the service runs on this machine"):
            strike(service.target, "engine", {"a"})
        assert other.poll() is None
        other.kill()


def test_nothing_elsewhere_is(service: FakeService) -> None:
    with pytest.raises(CannotStrike, match="is not this machine"):
        strike(Target("http://192.0.2.1:80"), "engine", {"a"})


def test_what_cannot_be_killed_is_told(service: FakeService) -> None:
    with pytest.raises(CannotStrike, match="'moon' is none of engine, worker, controller"):
        strike(service.target, "moon", {"a"})
    with pytest.raises(CannotStrike, match="no engine"):
        strike(service.target, "engine", {"another model"})
    service.models["a"].state = None
    with pytest.raises(CannotStrike, match="no engine"):
        strike(service.target, "engine", {"a"})
