"""What the controller did in that minute, from the recording that ``roundhouse record`` made of it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from loadtests.coldstart.child import tail
from loadtests.coldstart.service import OwnService
from loadtests.wire import CallFailed
from models.control.recording import Step, read_lines
from packers.types import ReplicaState, Sleep, Start, Stop, Wake

STOP_S = 30.0


@dataclass(frozen=True, slots=True)
class Deeds:
    """``gpu_s``: of replicas that were not asleep; ``occupied_gpu_s``: of GPUs with at least one such."""

    starts: int
    wakes: int
    evictions: int
    sleeps: int
    stops: int
    gpu_s: float
    occupied_gpu_s: float


@contextmanager
def recording(service: OwnService, file: Path, seconds: float) -> Iterator[None]:
    """Of what happens inside, with the command line's own recorder. Raises CallFailed when it failed."""
    log = file.with_suffix(".log")
    command = [sys.executable, "-m", "gateway.cli", "record", "--out", str(file), "--force"]
    command += ["--duration", f"{seconds:.0f}s", "--home", str(service.home)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=service.home, env=service.environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            yield
            process.wait(seconds + STOP_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode:
        raise CallFailed(f"the recording failed:\n{tail(log)}")


def steps_of(file: Path) -> list[Step]:
    """Raises RecordingError, OSError."""
    with file.open() as lines:
        return [line for line in read_lines(lines, str(file)) if isinstance(line, Step)]


def deeds(steps: Sequence[Step], from_s: float, until_s: float) -> Deeds:
    """What was begun in that time (Unix), and how long replicas were there."""
    inside = [step for step in steps if from_s <= step.snapshot.now_s < until_s]
    actions = [action for step in inside for action in step.plan.actions]
    kinds = Counter(type(action) for action in actions)
    evicted = sum(1 for action in actions if isinstance(action, Sleep | Stop) and action.evicted_for is not None)
    gpu_s, occupied_s = _gpu_seconds(steps, from_s, until_s)
    return Deeds(kinds[Start], kinds[Wake], evicted, kinds[Sleep], kinds[Stop], gpu_s, occupied_s)


def _gpu_seconds(steps: Sequence[Step], from_s: float, until_s: float) -> tuple[float, float]:
    """A snapshot holds until the next one that was recorded: it was recorded because the world had changed."""
    gpu_s = occupied_s = 0.0
    ends = [*(step.snapshot.now_s for step in steps[1:]), until_s]
    for step, end_s in zip(steps, ends, strict=True):
        lasted_s = min(end_s, until_s) - max(step.snapshot.now_s, from_s)
        if lasted_s <= 0:
            continue
        awake = [replica.gpu for replica in step.snapshot.replicas if replica.state is not ReplicaState.ASLEEP]
        gpu_s += lasted_s * len(awake)
        occupied_s += lasted_s * len(set(awake))
    return gpu_s, occupied_s


def longest_gap_s(steps: Sequence[Step]) -> float:
    """Between two recorded steps; the controller looks at least every 10 s at what has not changed."""
    return max((b.snapshot.now_s - a.snapshot.now_s for a, b in pairwise(steps)), default=0.0)
