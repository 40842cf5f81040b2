"""One pass over one subject: requests a second, latencies, streams, leaving callers, processor time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from statistics import median

from loadtests.gateway.bench import Bench
from loadtests.gateway.callers import Seen, Times
from loadtests.gateway.fake_engine import Window
from loadtests.gateway.family import Usage, busy_s
from loadtests.gateway.leaving import leave_times_ms
from loadtests.gateway.problems import CannotMeasure

STREAMS = 64
STREAM_EVENTS = 66
BRIEF_EVENTS = 3
LEAVERS = 20


class Measure(StrEnum):
    """What a pass finds; the value is its name in the JSON, with its unit."""

    RPS_1 = "requests_per_s_1_connection"
    RPS_16 = "requests_per_s_16_connections"
    RPS_64 = "requests_per_s_64_connections"
    VARIED_16 = "varied_requests_per_s_16_connections"
    VARIED_64 = "varied_requests_per_s_64_connections"
    P50_1 = "p50_us_1_connection"
    P99_1 = "p99_us_1_connection"
    VARIED_P50_1 = "varied_p50_us_1_connection"
    P50_16 = "p50_us_16_connections"
    P99_16 = "p99_us_16_connections"
    FIRST_BYTE = "stream_first_byte_us_1_connection"
    BURST_EVENTS = "events_per_s_64_streams"
    PACED_EVENTS = "events_per_s_64_streams_one_each_5_ms"
    LEAVE_MS = "caller_gone_to_engine_told_ms"
    CPU_US = "processor_us_per_request_16_connections"
    VARIED_CPU_US = "processor_us_per_varied_request_16_connections"
    CPU_US_EVENT = "processor_us_per_event_paced"
    RSS = "rss_bytes_after"
    OTHERS = "share_of_its_core_that_others_took"
    READY_S = "start_to_first_answer_s"


Figures = Mapping[Measure, float]


@dataclass(slots=True)
class Pass:
    """``troubles``: requests that failed, streams that were cut; each belongs next to the figures."""

    answered: int = 0  # requests and streams, within the measured seconds
    figures: dict[Measure, float] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Passing:
    """``usage``: of the gateway's processes; None when callers go to the engine directly."""

    bench: Bench
    port: int
    usage: Callable[[], Usage] | None
    hidden_engine: bool = False

    def measure(self) -> Pass:
        """Raises CannotMeasure."""
        found = Pass()
        if self.usage is None:
            self._all(found)
            return found
        cores = self.bench.cores.gateway
        began_s, busy_before_s, before = time.perf_counter(), busy_s(cores), self.usage()
        self._all(found)
        after = self.usage()
        others_s = busy_s(cores) - busy_before_s - (after.cpu_s - before.cpu_s)
        found.figures[Measure.OTHERS] = max(0.0, others_s) / (time.perf_counter() - began_s)
        found.figures[Measure.RSS] = after.rss_bytes
        return found

    def _all(self, found: Pass) -> None:
        self._requests(found)
        self._streams(found)
        if not self.hidden_engine:
            self._leaving(found)

    def _requests(self, found: Pass) -> None:
        figures, files = found.figures, self.bench.files
        for connections, rps in ((1, Measure.RPS_1), (16, Measure.RPS_16), (64, Measure.RPS_64)):
            seen, cpu_us = self._run(found, files.plain, connections)
            figures[rps] = seen.per_second
            if connections == 1:
                times = _some(seen.latency)
                figures[Measure.P50_1], figures[Measure.P99_1] = times.p50, times.p99
            if connections == 16:
                times = _some(seen.latency)
                figures[Measure.P50_16], figures[Measure.P99_16] = times.p50, times.p99
                if cpu_us is not None:
                    figures[Measure.CPU_US] = cpu_us / seen.per_second
        seen, _ = self._run(found, files.varied, 1)
        figures[Measure.VARIED_P50_1] = _some(seen.latency).p50
        seen, cpu_us = self._run(found, files.varied, 16)
        figures[Measure.VARIED_16] = seen.per_second
        if cpu_us is not None:
            figures[Measure.VARIED_CPU_US] = cpu_us / seen.per_second
        figures[Measure.VARIED_64] = self._run(found, files.varied, 64)[0].per_second

    def _streams(self, found: Pass) -> None:
        figures, files = found.figures, self.bench.files
        seen, _ = self._run(found, files.brief, 1, BRIEF_EVENTS)
        figures[Measure.FIRST_BYTE] = _some(seen.first_byte).p50
        seen, _ = self._run(found, files.burst, STREAMS, STREAM_EVENTS)
        figures[Measure.BURST_EVENTS] = seen.events_per_second
        seen, cpu_us = self._run(found, files.paced, STREAMS, STREAM_EVENTS)
        figures[Measure.PACED_EVENTS] = seen.events_per_second
        if cpu_us is not None:
            figures[Measure.CPU_US_EVENT] = cpu_us / seen.events_per_second

    def _leaving(self, found: Pass) -> None:
        request = self.bench.files.paced_request
        try:
            with Window(self.bench.engine_ports[0]) as window:
                found.figures[Measure.LEAVE_MS] = median(leave_times_ms(self.port, request, window.look, LEAVERS))
        except OSError as refused:
            found.troubles.append(f"leaving callers: {refused}")

    def _run(self, found: Pass, requests: Path, connections: int, events: int = 0) -> tuple[Seen, float | None]:
        """What was seen, and the gateway's processor time in us per second of it."""
        before = self.usage() if self.usage else None
        seconds = self.bench.seconds
        seen = self.bench.callers.run(self.port, requests, connections, seconds, events=events)
        found.answered += seen.done
        cpu_us = None
        if before is not None and self.usage is not None:
            cpu_us = (self.usage().cpu_s - before.cpu_s) / (seconds + self.bench.callers.warmup_s) * 1e6
        if seen.trouble:
            found.troubles.append(f"{requests.stem}, {connections} connections: {seen.trouble}")
        if not seen.done and not seen.events:
            raise CannotMeasure(f"no answer to {requests.stem} requests: {seen.why or 'none came in time'}")
        return seen, cpu_us


def _some(times: Times | None) -> Times:
    if times is None:
        raise CannotMeasure("no request was answered in time")
    return times
