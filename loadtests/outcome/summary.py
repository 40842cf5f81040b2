"""The figures of a run, of each phase, model, tenant and tag. Pure.

Latencies are those of requests that were answered; failures are counted beside them, by OpenAI's code. In an open load
they count from when a request was due. Percentiles are nearest-rank over every sample, gaps over every gap.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from loadtests.figures import percentile
from loadtests.load.plan import Phase
from loadtests.outcome.rows import Row
from loadtests.outcome.slo import Good, is_good

PERCENTILES = (50, 90, 95, 99)


def summary(rows: Sequence[Row], phases: Sequence[Phase], duration_s: float, good: Good) -> dict[str, Any]:
    whole = group(rows, duration_s, good)
    parts = []
    for place, phase in enumerate(phases):
        inside = [row for row in rows if row.phase == place]
        parts.append({"name": phase.name, **group(inside, phase.until_s - phase.from_s, good)})
    return {
        **whole,
        "phases": parts,
        "models": _by(rows, lambda row: row.model, duration_s, good),
        "dialects": _by(rows, lambda row: f"{row.dialect}{'' if row.stream else ' (whole)'}", duration_s, good),
        "tenants": _by(rows, lambda row: row.tenant, duration_s, good),
        "tags": _by(rows, lambda row: row.tag, duration_s, good),
        "tenants_by_phase": [
            _by([row for row in rows if row.phase == place], lambda row: row.tenant, p.until_s - p.from_s, good)
            for place, p in enumerate(phases)
        ],
    }


def _by(rows: Sequence[Row], key: Callable[[Row], str], duration_s: float, good: Good) -> dict[str, Any]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if key(row):
            groups[key(row)].append(row)
    return {name: group(inside, duration_s, good) for name, inside in sorted(groups.items())}


def group(rows: Sequence[Row], duration_s: float, good: Good) -> dict[str, Any]:
    """Rates are per second of ``duration_s``. ``mean_gap_ms``: of each answer's own mean gap (TPOT)."""
    answered = [row for row in rows if not row.error]
    goods = sum(is_good(row, good) for row in answered)
    seconds = max(duration_s, 1e-9)
    parts = sorted({part for row in answered for part in row.timing_ms})
    return {
        "requests": len(rows),
        "answered": len(answered),
        "failed": len(rows) - len(answered),
        "failed_share": round((len(rows) - len(answered)) / len(rows), 6) if rows else 0.0,
        "errors": _errors(rows),
        "requests_per_s": round(len(answered) / seconds, 3),
        "output_tokens_per_s": round(sum(row.output_tokens or 0 for row in rows) / seconds, 3),
        "input_tokens_per_s": round(sum(row.input_tokens or 0 for row in rows) / seconds, 3),
        "good_share": round(goods / len(rows), 6) if rows else None,
        "goodput_per_s": round(goods / seconds, 3),
        "ttft_ms": describe(row.ttft_us / 1e3 for row in answered if row.ttft_us is not None),
        "gap_ms": describe(gap / 1e3 for row in answered for gap in row.gaps_us),
        "mean_gap_ms": describe(sum(row.gaps_us) / len(row.gaps_us) / 1e3 for row in answered if row.gaps_us),
        "e2e_ms": describe(row.e2e_us / 1e3 for row in answered),
        "connect_ms": describe(row.connect_us / 1e3 for row in answered if row.connect_us is not None),
        "server_timing_ms": {part: describe(_values(answered, part)) for part in parts},
    }


def _values(rows: Sequence[Row], part: str) -> Iterable[float]:
    return (row.timing_ms[part] for row in rows if part in row.timing_ms)


def _errors(rows: Sequence[Row]) -> list[dict[str, Any]]:
    counted = Counter(row.error for row in rows if row.error)
    said = {row.error: row.message for row in reversed(rows) if row.error}
    return [{"code": code, "count": count, "first": said[code]} for code, count in counted.most_common()]


def describe(samples: Iterable[float]) -> dict[str, float]:
    """Count, percentiles, mean, least and largest; only the count when there are none."""
    ordered = sorted(samples)
    if not ordered:
        return {"count": 0}
    found: dict[str, float] = {"count": len(ordered)}
    found |= {f"p{percent}": round(percentile(ordered, percent), 3) for percent in PERCENTILES}
    mean = sum(ordered) / len(ordered)
    return found | {"mean": round(mean, 3), "min": round(ordered[0], 3), "max": round(ordered[-1], 3)}
