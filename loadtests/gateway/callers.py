"""Runs the program ``load`` and reads what it saw."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from loadtests.gateway.cores import children_on
from loadtests.gateway.problems import CannotMeasure

SPARE_S = 60.0  # beyond the seconds that a run is to take
WARMUP_S = 0.3


@dataclass(frozen=True, slots=True)
class Times:
    """In microseconds."""

    count: int
    p50: float
    p90: float
    p99: float
    largest: float


@dataclass(frozen=True, slots=True)
class Seen:
    """``failed``: requests without their whole answer, with ``why`` of the first; ``stuck``: without one at the end."""

    seconds: float
    done: int
    failed: int
    stuck: int
    opened: int
    events: int
    why: str
    latency: Times | None
    first_byte: Times | None
    gap: Times | None

    @property
    def per_second(self) -> float:
        return self.done / self.seconds

    @property
    def events_per_second(self) -> float:
        return self.events / self.seconds

    @property
    def trouble(self) -> str | None:
        if self.failed:
            return f"{self.failed} requests failed, the first one: {self.why}"
        return f"{self.stuck} requests got no answer" if self.stuck else None


@dataclass(frozen=True, slots=True)
class Callers:
    """``program`` on ``cores``; what a run asks is named by its arguments. ``warmup_s``: uncounted, before each run."""

    program: Path
    cores: Collection[int]
    warmup_s: float = WARMUP_S

    def run(
        self,
        port: int,
        requests: Path,
        connections: int,
        seconds: float,
        *,
        events: int = 0,
        leave: int = 0,
        rate: float = 0.0,
    ) -> Seen:
        """Raises CannotMeasure."""
        with self.running(port, requests, connections, seconds, events=events, leave=leave, rate=rate) as process:
            return finish(process, seconds)

    @contextlib.contextmanager
    def running(
        self,
        port: int,
        requests: Path,
        connections: int,
        seconds: float,
        *,
        events: int = 0,
        leave: int = 0,
        rate: float = 0.0,
        hold: bool = False,
    ) -> Iterator[subprocess.Popen[str]]:
        """The program under way; it is ended when the block is left early."""
        command = [str(self.program), "--port", str(port), "--requests", str(requests), "--warmup", str(self.warmup_s)]
        command += ["--connections", str(connections), "--seconds", str(seconds), "--events", str(events)]
        command += ["--leave", str(leave), "--rate", str(rate), *(["--hold"] if hold else [])]
        with children_on(self.cores):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()


def finish(process: subprocess.Popen[str], seconds: float) -> Seen:
    """Raises CannotMeasure when the program fails or does not end."""
    try:
        output, errors = process.communicate(timeout=seconds + SPARE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise CannotMeasure(f"the callers did not end {SPARE_S:g} s after their time") from None
    if process.returncode != 0:
        raise CannotMeasure(f"the callers ended with {process.returncode}: {errors.strip()[-500:]}")
    return read_seen(output.splitlines()[-1])


def opened(output: IO[str]) -> tuple[int, int, str]:
    """How many streams are open, how many failed, and why the first did; waits until all were tried."""
    line = output.readline()
    if not line:
        raise CannotMeasure("the callers ended before their streams were open")
    document = json.loads(line)
    return document["open"], document["failed"], document["why"]


def read_seen(line: str) -> Seen:
    document = json.loads(line)
    return Seen(
        seconds=document["seconds"],
        done=document["done"],
        failed=document["failed"],
        stuck=document["stuck"],
        opened=document["open"],
        events=document["events"],
        why=document["why"],
        latency=_times(document["latency_us"]),
        first_byte=_times(document["first_byte_us"]),
        gap=_times(document["gap_us"]),
    )


def _times(document: dict[str, Any] | None) -> Times | None:
    if document is None:
        return None
    return Times(document["count"], document["p50"], document["p90"], document["p99"], document["max"])
