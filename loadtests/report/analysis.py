"""From the runs to the report's figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from loadtests.load.plan import Phase
from loadtests.outcome.slo import COMPARED, Slo, judge
from loadtests.outcome.summary import summary
from loadtests.report import estimate, parts, words
from loadtests.report.blocks import block_length
from loadtests.report.content import Goal, Group, Line, PartLine, Report, SideFacts, Span, Waterfall, plain
from loadtests.report.estimate import Difference, Figure
from loadtests.report.sides import COMPARISON, COST, METRICS, Side, Subject, matched, values
from loadtests.report.statistic import Values, share_of

NAMES: dict[str, tuple[str, ...]] = {**COMPARED, "failed": ("mean",)}
_KINDS = {"phases": "phase", "tags": "tag", "models": "model", "tenants": "tenant", "dialects": "dialect"}


def analysed(subject: Subject, slo: Slo, seed: int = 0) -> Report:
    """The same report from the same runs and seed."""
    paired = _paired(subject)
    sides = _compared(subject) if paired else subject.sides
    length = block_length([one.series() for side in sides for one in side.passes])
    rng = np.random.default_rng(seed)
    lines = list(_lines(replace(subject, sides=tuple(sides)), paired, length, rng))
    shown = subject.shown
    whole = _summary(shown, slo)
    first = shown.first
    return Report(
        kind=subject.kind,
        suite=str(first["suite"]),
        sides=[_facts(side, slo) for side in subject.sides],
        lines=lines,
        parts=list(_parts(shown, length, rng)),
        waterfalls=_waterfalls(subject),
        goals=goals(slo, whole, lines),
        groups=list(_groups(whole)),
        notes=list(words.notes(subject, lines, paired)),
        paired=paired,
        block=length,
        pairs=sum(len(one.rows) for one in sides[0].passes) if paired else 0,
        load=words.load(first),
        settings=first["settings"],
        environment=first["environment"],
        knee=whole.get("knee") or (first["summary"].get("knee") if len(shown.passes) == 1 else None),
        argv=list(subject.argv),
    )


def _paired(subject: Subject) -> bool:
    """Both sides asked the same at the same times, and each pass has its counterpart."""
    if subject.kind == COST:
        return True
    if subject.kind != COMPARISON:
        return False
    one, other = subject.sides
    same = one.digest == other.digest and one.first["kind"] == "open"
    return same and len(one.passes) == len(other.passes) == 1


def _compared(subject: Subject) -> tuple[Side, Side]:
    """Of an open load, the requests that both have. Users of a closed one ask when they like: all of them."""
    one, other = subject.sides
    if one.first["kind"] != "open":
        return one, other
    both = [matched(first, second) for first, second in zip(one.passes, other.passes, strict=True)]
    return Side(one.name, tuple(first for first, _ in both)), Side(other.name, tuple(second for _, second in both))


def _lines(subject: Subject, paired: bool, length: int, rng: np.random.Generator) -> Iterator[Line]:
    sides = subject.sides
    found: list[tuple[str, str, Difference]] = []
    for metric in METRICS:
        taken = [[values(one, metric) for one in side.passes] for side in sides]
        names = _names(metric, [one for side in taken for one in side])
        if not names:
            continue
        if len(sides) == 1:
            for name, figure in zip(names, estimate.figures(taken[0], names, length, rng), strict=True):
                yield Line(metric, name, span(figure))
            continue
        # Of a closed load only the passes belong together, not the requests.
        alone = len(taken[0]) == 1 and subject.sides[0].first["kind"] != "open"
        compare: Callable[..., list[Difference]] = estimate.paired if paired and not alone else estimate.unpaired
        differences = compare(taken[0], taken[1], names, length, rng)
        found += [(metric, name, one) for name, one in zip(names, differences, strict=True)]
    adjusted = estimate.holm([difference.p for _, _, difference in found])
    for (metric, name, one), p in zip(found, adjusted, strict=True):
        share = None if one.share is None else span(one.share)
        # What a busy generator measured may be its own doing.
        significant = p < estimate.LEVEL and all(side.valid for side in sides)
        yield Line(
            metric, name, span(one.second), span(one.first), span(one.change), share,
            None if math.isnan(p) else p, significant, [round(each, 6) for each in one.passes],
        )  # fmt: skip


def _names(metric: str, taken: Sequence[Values]) -> list[str]:
    """What there are enough values for: a p99 of fewer than 100 values is the largest one."""
    fewest = min(len(one.sorted) for one in taken)
    enough = [name for name in NAMES[metric] if fewest * (1 - (share_of(name) or 0.0)) >= 1 - 1e-9]
    return enough if fewest else []


def span(figure: Figure) -> Span:
    low, high = (None if end is None else plain(end) for end in (figure.low, figure.high))
    return Span(plain(figure.value), low, high)


def _parts(side: Side, length: int, rng: np.random.Generator) -> Iterator[PartLine]:
    """Only of what was answered by a server that says where the time went."""
    told = [[row for row in one.rows if parts.ENGINE_HEAD in row.timing_ms] for one in side.passes]
    if not all(told):
        return
    whole = sum(parts.whole(rows).total_ms for rows in told) / len(told)
    for name in parts.PARTS:
        taken = [Values.of(parts.column(rows, lambda found, name=name: found.get(name, 0.0))) for rows in told]  # type: ignore[misc]
        (figure,) = estimate.figures(taken, ["mean"], length, rng)
        yield PartLine(name, span(figure), round(figure.value / whole, 6) if whole else 0.0)


def _waterfalls(subject: Subject) -> list[Waterfall]:
    falls = parts.falls(subject.shown.rows)
    beside = {fall.title: fall for fall in parts.falls(subject.sides[0].rows)} if subject.kind == COST else {}
    return [
        Waterfall(
            fall.title,
            fall.requests,
            {name: round(ms, 6) for name, ms in fall.parts_ms.items()},
            round(beside[fall.title].total_ms, 6) if fall.title in beside else None,
        )
        for fall in falls
    ]


def _summary(side: Side, slo: Slo) -> dict[str, Any]:
    phases = [Phase(**phase) for phase in side.first["phases"]]
    many = len(side.passes)
    longer = [Phase(p.name, p.from_s * many, p.until_s * many, p.rate_per_s, p.users) for p in phases]
    return summary(side.rows, longer, sum(one.document["duration_s"] for one in side.passes), slo.good)


def goals(slo: Slo, figures: dict[str, Any], lines: Sequence[Line]) -> list[Goal]:
    """Goals of the side that is shown, and of what it takes longer than the other."""
    found = [Goal(check.what, check.measured, check.limit, check.kept) for check in judge(slo, figures)]
    changes = {line.key: line.change for line in lines}
    for metric, limits in slo.added.items():
        for name, limit in limits.items():
            change = changes.get(f"{metric}.{name}")
            value = None if change is None else change.value
            found.append(Goal(f"added_{metric}.{name}", value, limit, value is not None and value <= limit))
    return found


def _facts(side: Side, slo: Slo) -> SideFacts:
    whole = _summary(side, slo)
    reasons = [
        (f"pass {number}: " if len(side.passes) > 1 else "") + reason
        for number, one in enumerate(side.passes, 1)
        for reason in one.document["generator"]["reasons"]
    ]
    return SideFacts(
        name=side.name,
        target=side.first["target"],
        passes=len(side.passes),
        requests=whole["requests"],
        failed=whole["failed"],
        valid=side.valid,
        reasons=reasons,
        errors=whole["errors"],
        started_unix_s=[one.document["started_unix_s"] for one in side.passes],
        digest=side.digest,
        requests_per_s=whole["requests_per_s"],
        output_tokens_per_s=whole["output_tokens_per_s"],
        goodput_per_s=whole["goodput_per_s"],
    )


def _groups(whole: dict[str, Any]) -> Iterator[Group]:
    """Kinds that tell something apart."""
    for field, kind in _KINDS.items():
        listed = whole[field]
        named = {one["name"]: one for one in listed} if isinstance(listed, list) else listed
        if len(named) > 1:
            for name, figures in named.items():
                yield Group(kind, name, {key: value for key, value in figures.items() if key != "name"})
