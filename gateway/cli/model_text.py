"""A model in words and columns: its tier, how its engines run, what they hold, what it costs to move it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.cli.output import age_text, bytes_text

KINDS = ("weights", "kv_cache", "overhead", "residue", "host")
ON_GPU = KINDS[:3]
TIERS = {"gpu": "gpu", "host": "host", "page_cache": "page cache"}
COSTS = {
    "wake": "wake",
    "start_page_cache": "start, weights in page cache",
    "start_disk": "start, weights on disk",
    "start_peer": "start, weights from another node",
    "start_remote": "start, weights elsewhere",
    "cold_start": "start from the source alone",
    "sleep": "sleep",
    "stop": "stop",
}


def row(model: Mapping[str, Any], now_unix_s: float) -> tuple[object, ...]:
    """In the order of ``COLUMNS``."""
    costs_s = model["costs_s"]
    return (
        model["model_id"],
        ", ".join(model["aliases"]),
        model["runtime"],
        tier_text(model["tier"]),
        len(model["replicas"]),
        model["in_flight"],
        model["held"],
        bytes_text(on_gpu(model["footprint"])),
        bytes_text(on_gpu(model["memory"])) if model["memory"] else None,
        runs_text(model),
        span_text(costs_s.get("wake")),
        span_text(start_s(model)),
        age_text(now_unix_s - model["last_request_unix_s"]) if model["last_request_unix_s"] else None,
        "; ".join(notes(model)),
    )


COLUMNS = (
    "MODEL",
    "ALIASES",
    "RUNTIME",
    "TIER",
    "REPLICAS",
    "IN FLIGHT",
    "HELD",
    "GPU MEMORY",
    "HOLDS",
    "RUNS",
    "WAKES IN",
    "STARTS IN",
    "LAST USED",
    "NOTES",
)


def tier_text(tier: str) -> str:
    return TIERS.get(tier, tier)


def runs_text(model: Mapping[str, Any]) -> str:
    """``fast, mapped``: how its engines were started, and how they hold their weights."""
    return ", ".join(filter(None, (model["path"], model["weights"])))


def start_s(model: Mapping[str, Any]) -> float | None:
    """From where its weights are now, if it was ever started from there."""
    found: float | None = model["costs_s"].get(f"start_{model['weights_tier'] or 'disk'}")
    return found


def on_gpu(kinds: Mapping[str, int]) -> int:
    return sum(kinds.get(kind, 0) for kind in ON_GPU)


def span_text(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:.2f} s"


def notes(model: Mapping[str, Any]) -> Iterator[str]:
    """What an operator should know."""
    if model["failure"]:
        yield model["failure"]["message"]
    if model["excess_bytes"]:
        yield f"holds {bytes_text(model['excess_bytes'])} more than its card says"
    if model["quarantined"]:
        count = model["quarantined"]
        yield f"quarantined {count} time{'s' * (count != 1)}"


def detail_lines(model: Mapping[str, Any]) -> Iterator[str]:
    """Everything of one model but the tables of its memory and its replicas."""
    kind = " (simulated GPUs)" if model["simulated"] else ""
    names = f", also {', '.join(model['aliases'])}" if model["aliases"] else ""
    yield f"{model['model_id']}{names}: {model['runtime']}, from {model['source']}"
    weights = f"; its weights are in the {tier_text(model['weights_tier'])}" if model["weights_tier"] else ""
    yield f"tier      {tier_text(model['tier'])}{kind}{weights}"
    if runs := runs_text(model):
        yield f"runs      {runs}"
    yield f"requests  {model['in_flight']} in flight, {model['held']} held"
    if model["costs_s"]:
        known = (f"{words} {model['costs_s'][name]:.2f} s" for name, words in COSTS.items() if name in model["costs_s"])
        yield f"takes     {'; '.join(known)}"
    for note in notes(model):
        yield f"note      {note}"
    failure = model["failure"]
    if failure:
        again = "not until its card or its files change, or `roundhouse models wake`"
        if not failure["permanent"]:
            again = f"in {max(0.0, failure['retry_at_unix_s'] - time.time()):.0f} s"
        yield f"fault     {failure['fault']}, {failure['attempts']} in a row; next attempt {again}"


def memory_rows(model: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    """Kind, what the next replica reserves, where that comes from, the most that was measured, what is held now."""
    measured, held = model["measured"] or {}, model["memory"]
    for kind in KINDS:
        yield (
            kind.replace("_", " "),
            bytes_text(model["footprint"].get(kind)),
            model["footprint_from"].get(kind),
            bytes_text(measured.get(kind)),
            bytes_text(held.get(kind)),
        )


MEMORY_COLUMNS = ("MEMORY", "RESERVES", "AS", "MEASURED", "NOW, ALL REPLICAS")
