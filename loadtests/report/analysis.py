"""From the runs to the report's figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from loadtests.load.plan import Phase
from loadtests.outcome.slo import Slo, judge
from loadtests.outcome.summary import summary
from loadtests.report import estimate, lines, parts, words
from loadtests.report.blocks import block_length
from loadtests.report.content import Goal, Group, Line, PartLine, Report, SideFacts, Waterfall
from loadtests.report.lines import span
from loadtests.report.sides import COMPARISON, COST, Side, Subject, matched
from loadtests.report.statistic import Values

_KINDS = {"phases": "phase", "tags": "tag", "models": "model", "tenants": "tenant", "dialects": "dialect"}


def analysed(subject: Subject, slo: Slo, seed: int = 0) -> Report:
    """The same report from the same runs and seed."""
    paired = _paired(subject)
    # Users of a closed load ask when they like: their passes belong together, their requests do not.
    by_request = paired and subject.shown.first["kind"] == "open"
    sides = _matched(subject) if by_request else subject.sides
    length = block_length([one.series() for side in sides for one in side.passes])
    rng = np.random.default_rng(seed)
    if len(sides) == 1:
        figures = list(lines.of_side(sides[0], length, rng))
    else:
        one, other = sides
        figures = list(lines.of_both(one, other, length, rng, paired=paired, by_request=by_request))
    shown = subject.shown
    whole = pooled(shown, slo)
    first = shown.first
    return Report(
        kind=subject.kind,
        suite=str(first["suite"]),
        sides=[_facts(side, slo) for side in subject.sides],
        lines=figures,
        parts=list(_parts(shown, length, rng)),
        waterfalls=_waterfalls(subject),
        goals=goals(slo, whole, figures),
        groups=list(_groups(whole)),
        notes=[*words.notes(subject, figures, paired), *_unmatched(subject.sides, sides), *_judged_so(shown, slo)],
        paired=paired,
        block=length,
        pairs=sum(len(one.rows) for one in sides[0].passes) if by_request else 0,
        load=words.load(first),
        settings=first["settings"],
        environment=first["environment"],
        knee=first["summary"].get("knee") if len(shown.passes) == 1 else None,
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


def _matched(subject: Subject) -> tuple[Side, Side]:
    """The requests that both have."""
    one, other = subject.sides
    both = [matched(first, second) for first, second in zip(one.passes, other.passes, strict=True)]
    return Side(one.name, tuple(first for first, _ in both)), Side(other.name, tuple(second for _, second in both))


def _unmatched(whole: Sequence[Side], compared: Sequence[Side]) -> Iterator[str]:
    for side, part in zip(whole, compared, strict=True):
        if left := len(side.rows) - len(part.rows):
            yield (
                f"{left:,} of {len(side.rows):,} requests ({side.name}) have no counterpart on the other side (later "
                "turns of a conversation wait for answers; others were never sent): they are not compared."
            )


def _judged_so(side: Side, slo: Slo) -> Iterator[str]:
    if len(side.passes) > 1 and (slo.ttft_ms or slo.gap_ms or slo.e2e_ms):
        yield "Goals are for all requests of all passes together; the figures above are means of the passes' own."


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


def pooled(side: Side, slo: Slo) -> dict[str, Any]:
    """``loadtests.outcome.summary`` of all requests of all passes."""
    phases = [Phase(**phase) for phase in side.first["phases"]]
    lasted_s = max(one.document["duration_s"] for one in side.passes)
    return summary(side.rows, phases, lasted_s, slo.good, len(side.passes))


def goals(slo: Slo, figures: dict[str, Any], found: Sequence[Line]) -> list[Goal]:
    """Goals of the side that is shown, and of what it takes longer than the other. The figure itself decides, not its
    interval."""
    checks = [Goal(check.what, check.measured, check.limit, check.kept) for check in judge(slo, figures)]
    changes = {line.key: line.change for line in found}
    for metric, limits in slo.added.items():
        for name, limit in limits.items():
            change = changes.get(f"{metric}.{name}")
            value = None if change is None else change.value
            checks.append(Goal(f"added_{metric}.{name}", value, limit, value is not None and value <= limit))
    return checks


def _facts(side: Side, slo: Slo) -> SideFacts:
    whole = pooled(side, slo)
    return SideFacts(
        name=side.name,
        target=side.first["target"],
        passes=len(side.passes),
        requests=whole["requests"],
        failed=whole["failed"],
        valid=side.valid,
        reasons=side.reasons,
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
