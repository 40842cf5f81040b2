from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import cast

import pytest

from loadtests.chaos import cell, recovery
from loadtests.chaos.calls import How
from loadtests.chaos.cell import Play, Result
from loadtests.chaos.census import Census, Process, count
from loadtests.chaos.faults import FAULTS, Fault
from loadtests.chaos.moments import MOMENTS
from loadtests.chaos.verdict import broken
from loadtests.coldstart.admin import Admin
from tests.loadtests.chaos.test_faults import as_process
from tests.loadtests.chaos.town import FakeCensus, Town

Victim = Callable[[str], Process]


@pytest.fixture
def victim(census: FakeCensus) -> Iterator[Victim]:
    """A real process that may be hit, in the part of one of the service's."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(kind: str) -> Process:
        process = subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], stdin=-1, stdout=-1)
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        there = as_process(process.pid)
        made = Process(there.pid, there.start_ticks, there.parent, kind)
        census.others.append(made)
        return made

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def play(town: Town, census: FakeCensus, victim: Victim, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Without the pauses that a real service needs; its controller is a process that can be killed."""
    monkeypatch.setattr(recovery, "STABLE_S", 0.05)
    monkeypatch.setattr(cell, "AFTERWARDS_S", 0.1)
    victim("controller")
    before = count(census.look())
    return Play(Admin(town.target), cast(Census, census), before, silent_s=0.1, recover_within_s=5.0)


@pytest.mark.parametrize("moment", ["idle", "load", "start"])
def test_a_service_that_bears_it_gets_a_green_cell(play: Play, moment: str) -> None:
    result = play.cell(FAULTS["controller-9"], MOMENTS[moment])
    assert broken(result) == []
    assert result.stuck == 0
    assert set(result.ways) == {How.OK}
    assert result.seen.ledgers > 0
    assert result.call_s is not None
    assert result.again_s is not None
    assert result.hit


def test_what_goes_on_again_is_hit_for_a_while(play: Play, census: FakeCensus, victim: Victim) -> None:
    redis = victim("redis")
    play = replace(play, before=count(census.look()))
    result = play.cell(FAULTS["redis-silent"], MOMENTS["idle"])
    assert result.problem == ""
    assert redis.alive(), "it was stopped, not killed"


def test_whom_it_cannot_hit_it_names(play: Play) -> None:
    nobody = Fault("raylet-9", "", lambda *_: [])
    result = play.cell(nobody, MOMENTS["load"])
    assert result.problem == "raylet-9: no such process runs"
    assert result.stuck == 0, "its crowd has gone home"


def test_a_replica_that_is_taken_away_and_one_that_dies(play: Play, town: Town, census: FakeCensus) -> None:
    town.decisions = [
        {"at_unix_s": 9e9, "action": "stop", "model_id": "steady", "replica_id": "steady-1", "reason": "to make room"},
        {"at_unix_s": 9e9, "action": "stop", "model_id": "cold", "replica_id": "cold-1", "reason": "nobody called"},
        {"at_unix_s": 1.0, "action": "stop", "model_id": "steady", "replica_id": "steady-0", "reason": "long ago"},
    ]

    def vanish(*_: object) -> list[Process]:
        census.hidden = {"steady-2"}
        return [process for process in census.others if process.kind == "controller"]

    result = replace(play, recover_within_s=0.5).cell(Fault("controller-9", "", vanish), MOMENTS["idle"])
    assert result.moved == ["to make room"]
    assert result.lost == ["steady-2"]
    assert [text.partition(": ")[2] for text in result.decided] == [
        "stop cold-1: nobody called",
        "stop steady-1: to make room",
    ]
    assert not result.recovered.whole
    assert result.again_s is None


@pytest.mark.parametrize(
    ("moment", "model", "ago_s", "hit"),
    [("start", "cold", 0.1, False), ("evict", "big-c", 0.1, False), ("evict", "big-c", 60.0, True)],
)
def test_what_was_over_before_it_was_hit_does_not_count(
    play: Play, town: Town, census: FakeCensus, moment: str, model: str, ago_s: float, hit: bool
) -> None:
    """The replica gets ready at the moment of the strike, or was ready long ago."""

    def late(*_: object) -> list[Process]:
        about = {"model_id": model, "replica_id": f"{model}-1", "reason": "ready after 0.1 s"}
        town.decisions = [{"at_unix_s": time.time() - ago_s, "action": "ready", **about}]
        return [process for process in census.others if process.kind == "controller"]

    town.evicts = "big-b-2"
    assert play.cell(Fault("controller-9", "", late), MOMENTS[moment]).hit is hit


def test_the_document_is_plain() -> None:
    document = Result("engine-9", "idle", problem="x").document()
    assert document["first_fresh_answer_s"] is None
    assert document["calls"] == 0
