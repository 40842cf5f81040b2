"""Rows of docs/latency-cost.md out of what the load tests leave. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loadtests.compare.table import cells, without
from loadtests.report.sides import Side

Rows = list[list[str]]
NONE = "-"
_METRICS = {"ttft_ms": "TTFT", "gap_ms": "ITL", "e2e_ms": "E2E"}
_SHOWN = (("ttft_ms", "p50"), ("ttft_ms", "p99"), ("gap_ms", "p50"), ("gap_ms", "p99"), ("e2e_ms", "p50"))
_TIERS = {"disk": "stopped: no process", "host": "asleep: weights in memory", "gpu": "ready"}


def gateway(report: Mapping[str, Any]) -> Rows:
    """What is added to a request that goes through: the report of a run with ``--direct``."""
    lines = {(line["metric"], line["name"]): line for line in report["lines"]}
    found = []
    for metric, name in _SHOWN:
        line = lines.get((metric, name))
        if line is None:
            continue
        change = _span(line["change"]) if line["change"] else NONE
        said = change if line["significant"] else f"{change}, within chance"
        found.append([f"{_METRICS[metric]} {name}", _ms(line["first"]), _ms(line["second"]), said])
    return found


def tiers(run: Mapping[str, Any]) -> Rows:
    """First hits: a run of the suite ``zero``."""
    found = []
    for tier, words in _TIERS.items():
        figures = run["summary"]["tags"].get(tier)
        if figures is not None:
            ttft = figures["ttft_ms"]
            ends = f"{ttft['min']:.1f} to {ttft['max']:.1f}" if ttft["count"] else NONE
            found.append([words, str(figures["requests"]), _both(ttft)[0], ends, str(figures["failed"])])
    return found


def spike(
    direct: Sequence[Mapping[str, Any]], through: Sequence[Mapping[str, Any]], replicas: Mapping[str, int]
) -> Rows:
    """What callers felt before, in and after it: figures of each phase, of the engine alone and of the service.
    ``replicas``: the most that were ready in each."""
    return [
        [
            f"{phase['name']}, {phase['rate_per_s']:g} a second",
            str(phase["requests"]),
            *_both(alone["ttft_ms"]),
            *_both(phase["ttft_ms"]),
            str(replicas.get(phase["name"], NONE)),
            f"{alone['failed']} / {phase['failed']}",
        ]
        for alone, phase in zip(direct, through, strict=True)
    ]


def most_ready(side: Side, model: str) -> dict[str, int]:
    """By phase: ready replicas of the model, at most, as the admin API told during the passes."""
    found: dict[str, int] = {}
    for one in side.passes:
        service = one.document["series"]["service"]
        ready = service.get("models", {}).get(model, {}).get("ready", [])
        for phase in one.document["phases"]:
            inside = [
                count or 0
                for at_s, count in zip(service.get("at_s", []), ready, strict=False)
                if phase["from_s"] <= at_s < phase["until_s"]
            ]
            if inside:
                found[phase["name"]] = max(found.get(phase["name"], 0), *inside)
    return found


def peers(comparison: Mapping[str, Any]) -> Rows:
    """A row per target, as the comparison's own table has it; no figures of runs that are not valid."""
    bad = spoiled(comparison)
    return [without(row, "not valid") if row[0] in bad and row[1] != NONE else row for row in cells(comparison)]


def spoiled(comparison: Mapping[str, Any]) -> dict[str, str]:
    """By target: why its figures may not be believed, or why it has none."""
    reasons = {target["name"]: "; ".join(target["reasons"]) for target in comparison["targets"] if target["reasons"]}
    return reasons | dict(comparison["missing"])


def _both(figures: Mapping[str, float]) -> list[str]:
    if not figures["count"]:
        return [NONE, NONE]
    return [f"{figures['p50']:.1f}", f"{figures['p99']:.1f}"]


def _ms(span: Mapping[str, Any] | None) -> str:
    return NONE if span is None or span["value"] is None else f"{span['value']:.2f}"


def _span(span: Mapping[str, Any]) -> str:
    if span["value"] is None:
        return NONE
    if span["low"] is None or span["high"] is None:
        return f"{span['value']:+.2f} (too few requests for an interval)"
    return f"{span['value']:+.2f} ({span['low']:+.2f} to {span['high']:+.2f})"
