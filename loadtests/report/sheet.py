"""The report's figures as a table for other programs: one line a figure, one column a fact."""

from __future__ import annotations

import csv
import io
from typing import Any

from loadtests.report.content import Report, Span

COLUMNS = (
    "kind", "suite", "figure", "statistic", "unit", "first", "first_low", "first_high", "value", "low", "high",
    "change", "change_low", "change_high", "change_share", "p_adjusted", "significant",
)  # fmt: skip
_NOTHING = Span(None)


def sheet(report: Report) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    about = {"kind": report.kind, "suite": report.suite}
    for line in report.lines:
        unit = "share" if line.metric == "failed" else "ms"
        two = line.change is not None
        share = None if line.share is None else line.share.value
        writer.writerow(
            {**about, "figure": line.metric, "statistic": line.name, "unit": unit, **_span("first", line.first),
             **_span("", line.second), **_span("change", line.change), "change_share": _cell(share),
             "p_adjusted": _cell(line.p), "significant": str(line.significant).lower() if two else ""}
        )  # fmt: skip
    for part in report.parts:
        writer.writerow(
            {**about, "figure": f"part.{part.part}", "statistic": "mean", "unit": "ms", **_span("", part.mean_ms)}
        )
    for goal in report.goals:
        writer.writerow(
            {**about, "figure": f"goal.{goal.what}", "statistic": "kept" if goal.kept else "missed", "unit": "",
             "value": _cell(goal.measured), "high": _cell(goal.limit)}
        )  # fmt: skip
    return out.getvalue()


def _span(name: str, span: Span | None) -> dict[str, Any]:
    found = span or _NOTHING
    prefix = f"{name}_" if name else ""
    return {name or "value": _cell(found.value), f"{prefix}low": _cell(found.low), f"{prefix}high": _cell(found.high)}


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.9g}"
