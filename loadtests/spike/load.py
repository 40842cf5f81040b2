"""An open load: requests go out when their time has come, however slow the answers are."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from loadtests.chat import ChatRequest, Progress, stream_chat
from loadtests.target import Target
from loadtests.wire import CallFailed

MOST_AT_ONCE = 512
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Phase:
    """Poisson arrivals at ``rate`` a second for ``for_s`` seconds."""

    name: str
    rate: float
    for_s: float


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds from when the request was due. ``error``: what the caller was told instead of an answer."""

    phase: str
    due_s: float
    late_s: float
    ttft_s: float | None = None
    e2e_s: float | None = None
    error: str = ""


def arrivals(phases: Sequence[Phase], rng: random.Random) -> list[tuple[str, float]]:
    """(phase, seconds from the beginning) of each request, in order."""
    found, begin_s = [], 0.0
    for phase in phases:
        at_s = begin_s + rng.expovariate(phase.rate)
        while at_s < begin_s + phase.for_s:
            found.append((phase.name, at_s))
            at_s += rng.expovariate(phase.rate)
        begin_s += phase.for_s
    return found


def play(
    target: Target, request: ChatRequest, phases: Sequence[Phase], rng: random.Random, began: Callable[[float], None]
) -> list[Sample]:
    """Send them all and wait for their answers. ``began`` is told the time of ``time.monotonic`` at the beginning."""
    samples: list[Sample] = []
    lock = threading.Lock()
    plan = arrivals(phases, rng)
    start_s = time.monotonic() + 0.2
    began(start_s)

    def one(phase: str, due_s: float) -> None:
        sample = _ask(target, request, phase, start_s + due_s, due_s)
        with lock:
            samples.append(sample)

    with ThreadPoolExecutor(MOST_AT_ONCE) as threads:
        for phase, due_s in plan:
            time.sleep(max(0.0, start_s + due_s - time.monotonic()))
            threads.submit(one, phase, due_s)
        until_s = start_s + sum(phase.for_s for phase in phases)
        time.sleep(max(0.0, until_s - time.monotonic()))
    return sorted(samples, key=lambda sample: sample.due_s)


def _ask(target: Target, request: ChatRequest, phase: str, at_s: float, due_s: float) -> Sample:
    late_s = time.monotonic() - at_s
    progress = Progress(started_s=at_s)  # what a caller waits for begins when the call is due
    try:
        stream_chat(target, request, progress, time.monotonic, TIMEOUT_S)
    except CallFailed as problem:
        return Sample(phase, due_s, late_s, error=str(problem))
    return Sample(phase, due_s, late_s, progress.ttft_s, progress.e2e_s)
