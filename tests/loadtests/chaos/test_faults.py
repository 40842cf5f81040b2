from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from loadtests.chaos.census import Process
from loadtests.chaos.faults import FAULTS, NoVictim, let_go_on, strike
from loadtests.chaos.stage import Stage

KINDS = ("controller", "launcher", "raylet", "gcs", "redis")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"], stdout=-1)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def as_process(pid: int) -> Process:
    with open(f"/proc/{pid}/stat") as file:
        words = file.read().rpartition(")")[2].split()
    return Process(pid, int(words[19]), int(words[1]), "redis")


def state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def test_each_fault_hits_its_own_kind_of_process(stage: Stage, of_kind: Callable[[str], Process]) -> None:
    processes = [of_kind(kind) for kind in (*KINDS, "gateway", "other")]
    for kind in KINDS:
        (victim,) = FAULTS[f"{kind}-9"].victims(stage, processes)
        assert victim.kind == kind


def test_the_engine_is_the_one_that_the_moment_is_about(stage: Stage) -> None:
    stage.engine = Process(1, 1, 1, "engine", "cold-1")
    assert FAULTS["engine-9"].victims(stage, []) == [stage.engine]
    stage.engine = None
    with pytest.raises(NoVictim, match="engine-9: no such process runs"):
        FAULTS["engine-9"].victims(stage, [])


def test_a_worker_of_the_gateway_is_hit_and_not_the_gateway_unless_that_is_its_only_worker(stage: Stage) -> None:
    boss, one, two = (Process(10, 1, 1, "gateway"), Process(11, 1, 10, "gateway"), Process(12, 1, 10, "gateway"))
    assert FAULTS["worker-9"].victims(stage, [boss, one, two]) == [one]
    assert FAULTS["worker-9"].victims(stage, [boss]) == [boss]


def test_killed(sleeper: subprocess.Popen[bytes]) -> None:
    victim = as_process(sleeper.pid)
    strike(FAULTS["redis-9"], [victim])
    assert sleeper.wait() == -signal.SIGKILL
    with pytest.raises(NoVictim, match="ended before it could be hit"):
        strike(FAULTS["redis-9"], [victim])
    let_go_on([victim])


def test_stopped_and_let_go_on(sleeper: subprocess.Popen[bytes]) -> None:
    victim = as_process(sleeper.pid)
    assert FAULTS["redis-silent"].goes_on
    strike(FAULTS["redis-silent"], [victim])
    while state(sleeper.pid) != "T":
        pass
    let_go_on([victim])
    while state(sleeper.pid) == "T":
        pass
