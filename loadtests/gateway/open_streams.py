"""G4: one worker's start and memory, and what ten thousand open streams add to it."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass

from loadtests.gateway import ours
from loadtests.gateway.bench import Bench
from loadtests.gateway.callers import finish, opened
from loadtests.gateway.family import Usage
from loadtests.gateway.problems import CannotMeasure
from loadtests.gateway.scene import started
from loadtests.policies.report import Figure

STREAMS = 10_000
SPARE_DESCRIPTORS = 400
HOLD_S = 5.0
SETTLE_S = 2.5  # each stream gets another event meanwhile
START_S, IDLE_BYTES, STREAM_BYTES = 0.5, 60e6, 25e3
STARTS = 5


@dataclass(frozen=True, slots=True)
class Held:
    """``streams`` were open at once; ``failed`` could not be, or were cut off."""

    streams: int
    failed: int
    why: str
    before: Usage
    during: Usage

    @property
    def bytes_per_stream(self) -> float:
        return (self.during.rss_bytes - self.before.rss_bytes) / self.streams


def reachable(wanted: int, descriptors: int) -> int:
    """A gateway needs two descriptors per stream: one for the caller, one for the engine."""
    return max(0, min(wanted, (descriptors - SPARE_DESCRIPTORS) // 2))


def hold(bench: Bench, wanted: int) -> Held:
    """Raises CannotMeasure."""
    with started(ours.subject(ours.ALONE), bench.scene()) as running:
        bench.callers.run(running.port, bench.files.plain, 16, 0.5)  # what is loaded on demand is loaded
        before = running.usage()
        with bench.callers.running(running.port, bench.files.held, wanted, HOLD_S, hold=True) as process:
            assert process.stdout is not None  # a pipe, as ``running`` made it
            streams, failed, why = opened(process.stdout)
            time.sleep(SETTLE_S)
            during = running.usage()
            seen = finish(process, HOLD_S)
        if not streams:
            raise CannotMeasure(f"no stream could be opened: {why}")
        return Held(streams, max(failed, seen.failed), why or seen.why, before, during)


def figures(bench: Bench) -> list[Figure]:
    """Raises CannotMeasure."""
    starts, idle = [], []
    for _ in range(STARTS):
        with started(ours.subject(ours.ALONE), bench.scene()) as running:
            starts.append(running.ready_s)
            idle.append(float(running.usage().largest_rss_bytes))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = reachable(STREAMS, soft)
    held = hold(bench, wanted)
    reached = {"wanted": STREAMS, "open_files": soft, "open": held.streams, "failed": held.failed, "why": held.why}
    reached |= {"rss_before_bytes": held.before.rss_bytes, "rss_during_bytes": held.during.rss_bytes}
    reached |= {"page_bytes": os.sysconf("SC_PAGE_SIZE")}
    median_start, median_idle = sorted(starts)[STARTS // 2], sorted(idle)[STARTS // 2]
    many = f"{held.streams} open streams (asked {wanted}; {soft} open files allowed)"
    return [
        Figure("G4", "1 worker", "start, from the command to the first answer", median_start, "s", START_S,
               details={"passes": starts}),
        Figure("G4", "1 worker", "idle memory of the largest process", median_idle / 1e6, "MB", IDLE_BYTES / 1e6,
               details={"passes_bytes": idle}),
        Figure("G4", many, "memory each", held.bytes_per_stream / 1e3, "KB", STREAM_BYTES / 1e3, details=reached),
        Figure("G4", many, "streams cut off or refused", held.failed, "", 0.0),
    ]  # fmt: skip
