"""The figures of a run, of each phase, model, tenant and tag. Pure.

Latencies are those of requests that were answered; failures are counted beside them, by OpenAI's code. In an open load
they count from when a request was due. Percentiles are nearest-rank over every sample, gaps over every gap.

What is told a second is what came in that second: a service that falls behind answers no more for being asked more, and
what it answers when the load is over is not of the load's time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from loadtests.figures import percentile
from loadtests.load.plan import Phase
from loadtests.outcome.rows import Row
from loadtests.outcome.slo import Good, is_good

PERCENTILES = (50, 90, 95, 99)


def summary(
    rows: Sequence[Row], phases: Sequence[Phase], duration_s: float, good: Good, runs: int = 1
) -> dict[str, Any]:
    """``duration_s``: until nothing was begun. ``runs``: of one plan, whose requests these are."""
    whole = Span(0.0, duration_s, runs)
    spans = [Span(phase.from_s, max(phase.from_s, min(phase.until_s, duration_s)), runs) for phase in phases]
    due = [[row for row in rows if row.phase == place] for place in range(len(phases))]
    return {
        **group(rows, whole, good),
        "phases": [
            {"name": phase.name, **group(mine, span, good, rows)}
            for phase, mine, span in zip(phases, due, spans, strict=True)
        ],
        "models": _by(rows, lambda row: row.model, whole, good),
        "dialects": _by(rows, lambda row: f"{row.dialect}{'' if row.stream else ' (whole)'}", whole, good),
        "tenants": _by(rows, _tenant, whole, good),
        "tags": _by(rows, lambda row: row.tag, whole, good),
        "tenants_by_phase": [_by(mine, _tenant, span, good, rows) for mine, span in zip(due, spans, strict=True)],
    }


@dataclass(frozen=True, slots=True)
class Span:
    """Some seconds of a run, or the same seconds of so many ``runs``."""

    from_s: float
    until_s: float
    runs: int = 1

    @property
    def seconds(self) -> float:
        return max(1e-9, (self.until_s - self.from_s) * self.runs)

    def holds(self, at_us: float) -> bool:
        return self.from_s * 1e6 < at_us <= self.until_s * 1e6

    def tokens(self, row: Row) -> float:
        """Of its answer, those that came in this time; each event has as many as another."""
        written = row.output_tokens or 0
        if row.first_token_us is None:
            return written if self.holds(row.end_us) else 0
        if self.holds(row.first_token_us) and self.holds(row.end_us):
            return written
        times_us = list(accumulate(row.gaps_us, initial=row.first_token_us))
        return written * sum(map(self.holds, times_us)) / len(times_us)


def _tenant(row: Row) -> str:
    return row.tenant


def _by(
    rows: Sequence[Row], key: Callable[[Row], str], span: Span, good: Good, around: Sequence[Row] | None = None
) -> dict[str, Any]:
    groups, theirs = _sorted(rows, key), _sorted(rows if around is None else around, key)
    return {name: group(inside, span, good, theirs[name]) for name, inside in sorted(groups.items())}


def _sorted(rows: Sequence[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if key(row):
            groups[key(row)].append(row)
    return groups


def group(rows: Sequence[Row], span: Span | float, good: Good, around: Sequence[Row] | None = None) -> dict[str, Any]:
    """``span``: the time that rates are of, or its seconds from the run's beginning. ``around``: all requests that may
    have ended in it, where ``rows`` are those that were due. ``mean_gap_ms``: of each answer's own mean gap (TPOT)."""
    span = Span(0.0, span) if isinstance(span, float | int) else span
    came = [row for row in (rows if around is None else around) if span.holds(row.end_us)]
    answered = [row for row in rows if not row.error]
    goods = sum(is_good(row, good) for row in answered)
    parts = sorted({part for row in answered for part in row.timing_ms})
    return {
        "requests": len(rows),
        "answered": len(answered),
        "failed": len(rows) - len(answered),
        "failed_share": round((len(rows) - len(answered)) / len(rows), 6) if rows else 0.0,
        "errors": _errors(rows),
        "requests_per_s": round(sum(not row.error for row in came) / span.seconds, 3),
        "output_tokens_per_s": round(sum(map(span.tokens, rows if around is None else around)) / span.seconds, 3),
        "input_tokens_per_s": round(sum(row.input_tokens or 0 for row in came) / span.seconds, 3),
        "good_share": round(goods / len(rows), 6) if rows else None,
        "goodput_per_s": round(sum(is_good(row, good) for row in came) / span.seconds, 3),
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
