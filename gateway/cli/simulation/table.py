"""What came out of the runs, for people (a table) and for programs (one JSON document)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.cli.simulation.runs import Run
from models.catalog.policies import described

COLUMNS = (
    "RUN",
    "DELAYED",
    "WAIT p50",
    "p95",
    "p99",
    "MAX",
    "NOT SERVED",
    "STARTS",
    "WAKES",
    "EVICTIONS",
    "GPU-HOURS",
    "MONEY",
)


def rows(runs: Sequence[Run]) -> list[tuple[object, ...]]:
    return [_row(run) for run in runs]


def _row(run: Run) -> tuple[object, ...]:
    result = run.result
    waits = result.waits
    return (
        run.variant.label,
        f"{100 * result.delayed_share:.2f} %",
        *(duration(value) for value in (waits.p50_s, waits.p95_s, waits.p99_s, waits.max_s)),
        result.timed_out + result.refused + result.failed,
        result.starts_disk,
        result.starts_host,
        result.evictions,
        f"{result.hours.occupied:.2f} of {result.hours.provisioned:.2f}",
        f"{result.money:.2f}" if result.money else None,
    )


def duration(value_s: float) -> str:
    if value_s >= 100:
        return f"{value_s:.0f} s"
    return f"{value_s:.2f} s" if value_s >= 0.1 or value_s == 0 else f"{1000 * value_s:.1f} ms"


def document(runs: Sequence[Run], about: dict[str, Any]) -> dict[str, Any]:
    """``about``: where the requests came from, and what the world was like."""
    return {
        "simulated": True,
        **about,
        "runs": [
            {
                "label": run.variant.label,
                "settings": dict(run.variant.settings),
                "policies": described(run.policies),
                "took_s": round(run.took_s, 3),
                "result": run.result.to_json(),
            }
            for run in runs
        ],
    }
