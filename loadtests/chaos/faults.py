"""What happens to the service: which process is hit by which signal, and whether it is let go on later."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtests.chaos.census import Process
from loadtests.chaos.stage import Stage
from loadtests.wire import CallFailed

SILENT_S = 30.0
Aim = Callable[[Stage, Sequence[Process]], list[Process]]


class NoVictim(CallFailed):
    """There is no such process."""


@dataclass(frozen=True, slots=True)
class Fault:
    """``aim``: who is hit, of all processes. ``goes_on``: after a while it gets SIGCONT."""

    name: str
    about: str
    aim: Aim
    signum: signal.Signals = signal.SIGKILL
    goes_on: bool = False

    def victims(self, stage: Stage, processes: Sequence[Process]) -> list[Process]:
        """Raises NoVictim."""
        found = self.aim(stage, processes)
        if not found:
            raise NoVictim(f"{self.name}: no such process runs")
        return found


def _kind(kind: str) -> Aim:
    return lambda _, processes: [process for process in processes if process.kind == kind]


def _engine(stage: Stage, _: Sequence[Process]) -> list[Process]:
    return [stage.engine] if stage.engine is not None else []


def _worker(_: Stage, processes: Sequence[Process]) -> list[Process]:
    """A worker is a child of the gateway; a gateway of one worker is that worker."""
    gateways = {process.pid: process for process in processes if process.kind == "gateway"}
    workers = [process for process in gateways.values() if process.parent in gateways]
    return (workers or list(gateways.values()))[:1]


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("engine-9", "an engine is killed", _engine),
        Fault("engine-stop", "an engine is stopped (SIGSTOP) and does not go on", _engine, signal.SIGSTOP),
        Fault("worker-9", "a worker of the gateway is killed", _worker),
        Fault("controller-9", "the controller is killed", _kind("controller")),
        Fault(
            "controller-silent",
            f"the controller is stopped for {SILENT_S:g} s",
            _kind("controller"),
            signal.SIGSTOP,
            goes_on=True,
        ),
        Fault("node-9", "the node actor is killed", _kind("node actor")),
        Fault("keeper-9", "the actor that keeps engines is killed", _kind("keeper")),
        Fault("launcher-9", "the launcher is killed", _kind("launcher")),
        Fault("raylet-9", "Ray's node (raylet) is killed", _kind("raylet")),
        Fault("gcs-9", "Ray's head (GCS) is killed", _kind("gcs")),
        Fault("redis-9", "Redis is killed", _kind("redis")),
        Fault("redis-silent", f"Redis is stopped for {SILENT_S:g} s", _kind("redis"), signal.SIGSTOP, goes_on=True),
    )
}


def strike(fault: Fault, victims: Sequence[Process]) -> None:
    """Raises NoVictim when one of them has ended by itself."""
    for victim in victims:
        if not victim.send(fault.signum):
            raise NoVictim(f"{fault.name}: process {victim.pid} ended before it could be hit")


def let_go_on(victims: Sequence[Process]) -> None:
    """SIGCONT to whoever still lives."""
    for victim in victims:
        victim.send(signal.SIGCONT)
