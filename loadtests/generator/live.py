"""A run while it lasts: a line for the terminal, and metrics for Prometheus."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loadtests.figures import percentile
from loadtests.outcome.health import Second
from loadtests.outcome.rows import Row

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

RECENT = 500  # requests that the line's percentiles are of
_LONG = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28)


@dataclass(slots=True)
class Progress:
    """``line`` says what a person wants to know meanwhile."""

    ends_s: float
    done: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    recent: deque[Row] = field(default_factory=lambda: deque(maxlen=RECENT))
    last: dict[int, Second] = field(default_factory=dict)

    def take(self, rows: Sequence[Row], seconds: Sequence[Second]) -> None:
        for row in rows:
            self.done += 1
            if row.error:
                self.failed[row.error] += 1
            else:
                self.recent.append(row)
        for second in seconds:
            self.last[second.worker] = second

    def line(self, run_s: float) -> str:
        now = self.last.values()
        parts = [f"{min(run_s, self.ends_s):4.0f}/{self.ends_s:.0f} s", f"{sum(each.open for each in now)} open"]
        parts.append(f"{self.done} done ({sum(each.sent for each in now)}/s)")
        ttft = sorted(row.ttft_us / 1e3 for row in self.recent if row.ttft_us is not None)
        if ttft:
            parts.append(f"TTFT p50/p99 {percentile(ttft, 50):.0f}/{percentile(ttft, 99):.0f} ms")
        if self.failed:
            code, count = self.failed.most_common(1)[0]
            parts.append(f"{self.failed.total()} failed (most: {count} x {code})")
        busy = max((each.cpu_share for each in now), default=0.0)
        late_ms = max((each.late_ms for each in now), default=0.0)
        return ", ".join([*parts, f"generator {busy:.0%} busy, {late_ms:.1f} ms late"])


class Metrics:
    """``roundhouse_loadtest_*``; seconds. Labels are the model and the outcome, never a request."""

    def __init__(self, registry: CollectorRegistry, suite: str) -> None:
        from prometheus_client import Counter as Count
        from prometheus_client import Gauge, Histogram

        prefix = "roundhouse_loadtest_"
        self._done = Count(
            f"{prefix}requests", "Requests that have their end", ["suite", "model", "outcome"], registry=registry
        )
        self._tokens = Count(f"{prefix}output_tokens", "Tokens of answers", ["suite", "model"], registry=registry)

        def histogram(name: str, about: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(
                f"{prefix}{name}_seconds", about, ["suite", "model"], buckets=tuple(buckets), registry=registry
            )

        self._ttft = histogram("time_to_first_token", "From when a request was due to its first token", _LONG)
        self._gap = histogram("gap", "Between neighbouring events that carry text", _SHORT)
        self._e2e = histogram("request_duration", "From when a request was due to its end", _LONG)
        self._open = Gauge(f"{prefix}open_requests", "Requests without their end", ["worker"], registry=registry)
        self._cpu = Gauge(f"{prefix}generator_cpu_share", "Of a core, last second", ["worker"], registry=registry)
        self._late = Gauge(f"{prefix}send_late_seconds", "Worst of the last second", ["worker"], registry=registry)
        self._suite = suite

    def take(self, rows: Sequence[Row], seconds: Sequence[Second]) -> None:
        for row in rows:
            self._done.labels(self._suite, row.model, row.error or "answered").inc()
            self._tokens.labels(self._suite, row.model).inc(row.output_tokens or 0)
            if row.error:
                continue
            if row.ttft_us is not None:
                self._ttft.labels(self._suite, row.model).observe(row.ttft_us / 1e6)
            self._e2e.labels(self._suite, row.model).observe(row.e2e_us / 1e6)
            gap = self._gap.labels(self._suite, row.model)
            for gap_us in row.gaps_us:
                gap.observe(gap_us / 1e6)
        for second in seconds:
            self._open.labels(str(second.worker)).set(second.open)
            self._cpu.labels(str(second.worker)).set(second.cpu_share)
            self._late.labels(str(second.worker)).set(second.late_ms / 1e3)
