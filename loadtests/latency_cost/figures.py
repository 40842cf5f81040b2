"""Rows of docs/latency-cost.md out of what the load tests leave. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loadtests.compare.table import cells

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
            found.append([words, str(figures["requests"]), *_both(ttft), f"{figures['failed']} failed"])
    return found


def spike(run: Mapping[str, Any]) -> Rows:
    """What callers felt before, in and after it."""
    rates = {phase["name"]: phase["rate_per_s"] for phase in run["phases"]}
    return [
        [
            f"{phase['name']}, {rates[phase['name']]:g} a second",
            str(phase["requests"]),
            *_both(phase["ttft_ms"]),
            f"{phase['failed']} failed",
        ]
        for phase in run["summary"]["phases"]
    ]


def peers(comparison: Mapping[str, Any]) -> Rows:
    """A row per target, as the comparison's own table has it."""
    return cells(comparison)


def validity(document: Mapping[str, Any]) -> Sequence[str]:
    """Why these figures may not be believed: of a run, a report or a comparison; nothing when they may."""
    if "generator" in document:
        return list(document["generator"]["reasons"])
    if "sides" in document:
        return [f"{side['name']}: {reason}" for side in document["sides"] for reason in side["reasons"]]
    told = [f"{target['name']}: {reason}" for target in document["targets"] for reason in target["reasons"]]
    return told + [f"{name}: {why}" for name, why in document["missing"].items()]


def _both(figures: Mapping[str, float]) -> list[str]:
    if not figures["count"]:
        return [NONE, NONE]
    return [f"{figures['p50']:.1f}", f"{figures['p99']:.1f}"]


def _ms(span: Mapping[str, Any] | None) -> str:
    return NONE if span is None or span["value"] is None else f"{span['value']:.2f}"


def _span(span: Mapping[str, Any]) -> str:
    if span["value"] is None:
        return NONE
    bounds = [NONE if span[side] is None else f"{span[side]:+.2f}" for side in ("low", "high")]
    return f"{span['value']:+.2f} ({' to '.join(bounds)})"
