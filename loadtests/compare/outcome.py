"""The comparison as a document: figures of each target over all requests of all its passes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from loadtests.outcome.rows import rows
from loadtests.outcome.slo import Slo, judge, kept
from loadtests.outcome.summary import Span, group

FORMAT, VERSION = "roundhouse-comparison", 1


def outcome(
    runs: Mapping[str, Sequence[Mapping[str, Any]]], missing: Mapping[str, str], passes: int, slo: Slo
) -> dict[str, Any]:
    """``ok``: everyone was measured in every pass, by valid runs of one plan, and kept the goals."""
    targets = [_target(name, found, slo) for name, found in runs.items()]
    plans = {run["plan"]["digest"] for found in runs.values() for run in found}
    first = next((run for found in runs.values() for run in found), None)
    whole = bool(targets) and all(len(target["passes"]) == passes for target in targets)
    return {
        "format": FORMAT,
        "version": VERSION,
        "suite": first["suite"] if first else None,
        "settings": {name: value for name, value in first["settings"].items() if name != "salt"} if first else None,
        "environment": first["environment"] if first else None,
        "plan": sorted(plans),
        "passes": passes,
        "targets": targets,
        "missing": dict(missing),
        "ok": whole and not missing and len(plans) == 1 and all(each["valid"] and each["kept"] for each in targets),
    }


def _target(name: str, found: Sequence[Mapping[str, Any]], slo: Slo) -> dict[str, Any]:
    every = [row for run in found for row in rows(run["requests"])]
    figures = group(every, Span(0.0, max(run["duration_s"] for run in found), len(found)), slo.good)
    checks = judge(slo, figures)
    reasons = [reason for run in found for reason in run["generator"]["reasons"]]
    return {
        "name": name,
        "target": found[0]["target"],
        "valid": not reasons and bool(every),
        "reasons": reasons if every else ["nothing was asked"],
        "kept": kept(checks),
        "missed": [msgspec.to_builtins(check) for check in checks if not check.kept],
        "figures": figures,
        "passes": [_pass(run) for run in found],
    }


def _pass(run: Mapping[str, Any]) -> dict[str, Any]:
    whole = run["summary"]
    return {
        "started_unix_s": run["started_unix_s"],
        "plan": run["plan"]["digest"],
        "valid": run["generator"]["valid"],
        "again": run.get("again", False),
        "shortened": run["generator"]["shortened"],
        "load_1m": run["environment"]["machine"].get("load_1m"),
        **{name: whole[name] for name in ("requests", "failed", "output_tokens_per_s", "ttft_ms", "gap_ms", "e2e_ms")},
    }
