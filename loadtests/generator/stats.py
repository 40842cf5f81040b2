"""The same requests for Locust's own screens and reports: TTFT, ITL and E2E."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from locust.stats import bucket_response_time

from loadtests.outcome.rows import Row


class Failure(Exception):
    """What a request failed with, as Locust lists it."""


def tell(environment: Any, rows: Iterable[Row]) -> None:
    """Latencies are from when a request was due. A failure is told once, under E2E."""
    for row in rows:
        fire = environment.events.request.fire
        failure = Failure(f"{row.error}: {row.message}") if row.error else None
        common = {"name": row.model, "response_length": 0, "context": {}}
        if row.ttft_us is not None:
            fire(request_type="TTFT", response_time=row.ttft_us / 1e3, exception=None, **common)
        if row.gaps_us:
            add_gaps(environment.stats.get(row.model, "ITL"), row.gaps_us)
        kind = "E2E" if row.stream else "E2E (whole)"
        fire(request_type=kind, response_time=row.e2e_us / 1e3, exception=failure, **common)


def add_gaps(entry: Any, gaps_us: list[int]) -> None:
    """All gaps of an answer at once: one by one, Locust's own bookkeeping would be most of the generator's work."""
    first, *rest = gaps_us
    entry.log(first / 1e3, 0)
    if not rest:
        return
    entry.num_requests += len(rest)
    entry.num_reqs_per_sec[int(entry.last_request_timestamp)] += len(rest)
    entry.total_response_time += sum(rest) / 1e3
    entry.min_response_time = min(entry.min_response_time, min(rest) / 1e3)
    entry.max_response_time = max(entry.max_response_time, max(rest) / 1e3)
    for rounded_ms, count in Counter(bucket_response_time(gap / 1e3) for gap in rest).items():
        entry.response_times[rounded_ms] += count
