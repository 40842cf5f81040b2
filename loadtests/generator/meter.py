"""How busy this process is, second by second, from the operating system."""

from __future__ import annotations

import time
from pathlib import Path

from loadtests.client.caller import Caller
from loadtests.client.moments import clock
from loadtests.outcome.health import Second, WorkerHealth

SCHEDSTAT = Path(
    "/proc/self/schedstat"
)  # ns on a core, ns waiting for one, slices (Documentation/scheduler/sched-stats)


class Meter:
    """``late_s`` is told of each send; ``look`` once a second makes a row of what was since the last look."""

    def __init__(self, caller: Caller, worker: int, zero_s: float) -> None:
        self.health = WorkerHealth(worker)
        self._caller = caller
        self._zero_s = zero_s
        self._began_s = self._looked_s = clock()
        self._cpu_s = self._first_cpu_s = time.process_time()
        self._waited_s = waited_s()
        self._sent = self._events = 0
        self._late_s = 0.0

    def sent(self, late_s: float) -> None:
        self.health.sent += 1
        self._late_s = max(self._late_s, late_s)

    def look(self) -> Second:
        now_s, cpu_s, waiting_s = clock(), time.process_time(), waited_s()
        lasted_s = max(1e-6, now_s - self._looked_s)
        health, caller = self.health, self._caller
        second = Second(
            at_s=round(now_s - self._zero_s, 3),
            worker=health.worker,
            cpu_share=round((cpu_s - self._cpu_s) / lasted_s, 4),
            waited_share=round((waiting_s - self._waited_s) / lasted_s, 4),
            open=caller.open_calls,
            sent=health.sent - self._sent,
            events=caller.events - self._events,
            late_ms=round(self._late_s * 1e3, 3),
            read_ms=round(caller.late.recent_s * 1e3, 3),
        )
        health.open_most = max(health.open_most, caller.open_calls)
        self._looked_s, self._cpu_s, self._waited_s = now_s, cpu_s, waiting_s
        self._sent, self._events, self._late_s, caller.late.recent_s = health.sent, caller.events, 0.0, 0.0
        return second

    def report(self) -> WorkerHealth:
        """As of now."""
        health, caller = self.health, self._caller
        health.connections, health.reads = caller.connections, caller.late.count
        health.stamped = caller.stamps.seen
        health.read_counts, health.read_worst_s = caller.late.counts(), caller.late.worst_s
        health.cpu_s, health.wall_s = time.process_time() - self._first_cpu_s, clock() - self._began_s
        return health


def waited_s(file: Path = SCHEDSTAT) -> float:
    """How long this process could have run and did not, since it began; 0 where the system does not say."""
    try:
        return int(file.read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
