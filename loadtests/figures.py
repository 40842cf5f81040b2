"""From samples to the figures that are reported. Pure."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

KINDS = ("TTFT", "ITL", "E2E")
PERCENTILES = (50, 95, 99)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Nearest rank: the smallest sample that at least ``percent`` of all do not exceed. ``ordered`` ascends."""
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def describe(samples_ms: Iterable[float]) -> dict[str, float]:
    """Count, percentiles, mean and extremes in milliseconds; only the count when there are none."""
    ordered = sorted(samples_ms)
    if not ordered:
        return {"count": 0}
    figures: dict[str, float] = {"count": len(ordered)}
    figures |= {f"p{percent}_ms": round(percentile(ordered, percent), 3) for percent in PERCENTILES}
    figures |= {"mean_ms": round(math.fsum(ordered) / len(ordered), 3), "min_ms": round(ordered[0], 3)}
    return figures | {"max_ms": round(ordered[-1], 3)}


@dataclass(slots=True)
class Tally:
    """Every sample of a run in full resolution: Locust itself rounds to whole milliseconds and two digits.

    A failed request counts as a failure; its time is not among those of E2E.
    """

    samples_ms: dict[tuple[str, str], array[float]] = field(default_factory=dict)  # (kind, name)
    errors: Counter[str] = field(default_factory=Counter)
    requests: int = 0

    def record(self, kind: str, name: str, elapsed_ms: float, error: str | None = None) -> None:
        if kind == "E2E":
            self.requests += 1
        if error is not None:
            self.errors[f"{name}: {error}"] += 1
            return
        self.samples_ms.setdefault((kind, name), array("d")).append(elapsed_ms)

    def summary(self, duration_s: float) -> dict[str, Any]:
        by_kind: dict[str, list[float]] = {kind: [] for kind in KINDS}
        by_name: dict[str, dict[str, Any]] = {}
        for (kind, name), samples in sorted(self.samples_ms.items()):
            by_kind.setdefault(kind, []).extend(samples)
            by_name.setdefault(name, {})[kind] = describe(samples)
        return {
            "requests": self.requests,
            "failures": self.errors.total(),
            "duration_s": round(duration_s, 3),
            **{kind: describe(samples) for kind, samples in by_kind.items()},
            "models": by_name,
            "errors": [{"error": error, "count": count} for error, count in self.errors.most_common()],
        }


def one_line(summary: dict[str, Any]) -> str:
    """What a run found, for people: counts, rates, and the percentiles of each kind in milliseconds."""
    seconds = summary["duration_s"] or math.inf
    tokens = summary["ITL"]["count"] + summary["TTFT"]["count"]
    parts = [
        f"{summary['requests']} requests, {summary['failures']} failures in {summary['duration_s']:.1f} s "
        f"({summary['requests'] / seconds:.1f} requests/s, {tokens / seconds:.0f} tokens/s)"
    ]
    for kind in KINDS:
        figures = summary[kind]
        if figures["count"]:
            values = "/".join(f"{figures[f'p{percent}_ms']:.1f}" for percent in PERCENTILES)
            parts.append(f"{kind} p50/p95/p99 {values} ms")
        else:
            parts.append(f"{kind} none")
    return " | ".join(parts)
