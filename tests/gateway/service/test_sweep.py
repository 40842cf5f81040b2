"""Ending processes for good: asked once, then killed, and everything else left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from gateway.service.processes import ProcessId, alive, family, identify
from gateway.service.sweep import KILL_WAIT_S, Swept, sweep
from models.home import INSTANCE_ENV
from tests.gateway.service.conftest import Started

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
)
DOCILE = "import time; print('ready', flush=True); time.sleep(600)"


class World:
    """Make-believe processes: pid -> how many seconds they outlive a SIGTERM, and a SIGKILL (None: for ever)."""

    def __init__(self, **lives: tuple[float | None, float | None]) -> None:
        self.now = 0.0
        self.sent: list[tuple[float, int, str]] = []
        self._lives = {int(name.removeprefix("p")): life for name, life in lives.items()}
        self._ends: dict[int, float] = {}
        self.born: dict[int, float] = {}

    def look(self) -> frozenset[ProcessId]:
        there = (pid for pid in self._lives if self.born.get(pid, 0) <= self.now < self._ends.get(pid, 1e9))
        return frozenset(ProcessId(pid, 0) for pid in there)

    def send(self, process: ProcessId, signum: signal.Signals) -> bool:
        self.sent.append((round(self.now, 1), process.pid, signum.name))
        lasts_s = self._lives[process.pid][signum is signal.SIGKILL]
        if lasts_s is not None:
            self._ends[process.pid] = min(self._ends.get(process.pid, 1e9), self.now + lasts_s)
        return True

    def pause(self, seconds: float) -> None:
        self.now += seconds

    def sweep(self, grace_s: float) -> Swept:
        return sweep(self.look, grace_s=grace_s, now=lambda: self.now, pause=self.pause, signal_one=self.send)


def ids(*pids: int) -> frozenset[ProcessId]:
    return frozenset(ProcessId(pid, 0) for pid in pids)


def test_nothing_there_nothing_done() -> None:
    world = World()
    assert world.sweep(2) == Swept(ended=frozenset(), left=frozenset())
    assert world.now == 0


def test_who_heeds_is_asked_once_and_never_killed() -> None:
    world = World(p1=(0.5, 0), p2=(1.0, 0))
    assert world.sweep(2) == Swept(ended=ids(1, 2), left=frozenset())
    assert sorted(world.sent) == [(0, 1, "SIGTERM"), (0, 2, "SIGTERM")]


def test_who_does_not_is_killed_after_the_grace() -> None:
    world = World(p1=(None, 0))
    assert world.sweep(2).ended == ids(1)
    assert world.sent == [(0, 1, "SIGTERM"), (2.0, 1, "SIGKILL")]


def test_without_grace_nobody_is_asked() -> None:
    world = World(p1=(0.5, 0))
    assert world.sweep(0).ended == ids(1)
    assert [name for _, _, name in world.sent] == ["SIGKILL"]


def test_who_appears_meanwhile_is_ended_as_well() -> None:
    world = World(p1=(1.0, 0), p2=(0.1, 0), p3=(None, 0))
    world.born = {2: 0.5, 3: 0.9}
    assert world.sweep(2).ended == ids(1, 2, 3)


def test_who_cannot_be_killed_is_named() -> None:
    world = World(p1=(None, None), p2=(None, 0))
    assert world.sweep(2) == Swept(ended=ids(2), left=ids(1))
    assert world.now == pytest.approx(2 + KILL_WAIT_S, abs=0.1)


def test_only_tagged_processes_are_ended(start: Started) -> None:
    def started(code: str, tag: str | None) -> ProcessId:
        env = {**os.environ, INSTANCE_ENV: tag} if tag else None
        process = start(sys.executable, "-c", code, env=env, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        found = identify(process.pid)
        assert found is not None
        return found

    ours = {started(DOCILE, "swept"), started(STUBBORN, "swept")}
    others = {started(DOCILE, None), started(DOCILE, "swept-not"), started(STUBBORN, "another")}
    swept = sweep(lambda: family("swept"), grace_s=0.3)
    assert swept == Swept(ended=frozenset(ours), left=frozenset())
    assert not any(alive(process) for process in ours)
    assert all(alive(process) for process in others)
