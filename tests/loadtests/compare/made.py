"""Runs for tests of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loadtests.load.plan import Arrival, Phase, Plan
from loadtests.load.settings import Settings
from loadtests.load.wish import Wish
from loadtests.outcome.document import Seen, document
from loadtests.outcome.health import WorkerHealth
from loadtests.outcome.rows import Row
from tests.loadtests.outcome.made import row

SETTINGS = Settings(suite="steady", models=("m",), rate_per_s=2.0, duration_s=10.0)


def plan(requests: int) -> Plan:
    phases = (Phase("steady", 0.0, 10.0, rate_per_s=2.0),)
    return Plan(phases, 10.0, tuple(Arrival(float(at), Wish("m", place=at)) for at in range(requests)))


def run(ttfts_ms: Sequence[float], *, never_sent: int = 0, asked: int = 0, **fields: Any) -> dict[str, Any]:
    """One request for each TTFT, a second apart; ``asked``: requests of another plan."""
    rows: list[Row] = [
        row(1000.0 * at, ttft_ms=ttft_ms, e2e_ms=ttft_ms + 50, **fields) for at, ttft_ms in enumerate(ttfts_ms)
    ]
    worker = WorkerHealth(0, planned=len(rows) + never_sent, sent=len(rows), wall_s=10.0)
    seen = Seen(
        settings=SETTINGS, started_unix_s=1e9, duration_s=10.0, rows=rows, seconds=[], workers=[worker], service={},
        marks=[],
    )  # fmt: skip
    target = {"url": "http://127.0.0.1:1", "service": "other", "version": None, "simulated": None}
    return document(seen, plan(asked or len(rows)), target, {"machine": {"load_1m": 0.5}, "versions": {}})
