"""The report as a comment on a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from loadtests.report import words
from loadtests.report.content import Line, Report

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~@])")


def comment(report: Report) -> str:
    return "\n".join(_parts(report)) + "\n"


def _parts(report: Report) -> Iterator[str]:
    yield f"### {safe(words.title(report))}"
    yield ""
    verdict = f"**{words.verdict(report)}**"
    valid = "" if report.valid else " · **not valid**"
    simulated = " · simulated GPUs" if report.simulated else ""
    yield f"{verdict}{valid}{simulated} · {safe(report.load)}"
    yield ""
    if len(report.sides) > 1:
        yield _sentence(report)
        yield ""
    yield from _figures(report)
    if report.parts:
        yield ""
        shares = " · ".join(
            f"{words.PART_WORDS[one.part]} {words.with_unit(one.mean_ms.value)}"
            for one in report.parts
            if one.mean_ms.value
        )
        yield f"Mean TTFT: {shares}"
    missed = [goal for goal in report.goals if not goal.kept]
    if missed:
        yield ""
        yield from table(
            ("missed goal", "measured", "limit"),
            [(safe(goal.what), words.number(goal.measured), words.number(goal.limit)) for goal in missed],
        )
    if report.notes:
        yield ""
        yield "<details><summary>Read it with care</summary>"
        yield ""
        yield from (f"- {safe(note)}" for note in report.notes)
        yield ""
        yield "</details>"


def _sentence(report: Report) -> str:
    if not report.valid:
        return "Nothing is called significant: a run is not valid."
    found = [line for line in report.lines if line.significant]
    said = "; ".join(f"{label(line)} {words.finding(line).removesuffix(', significant')}" for line in found)
    whole = f"Significant: {said}." if found else "Nothing differs by more than chance."
    return f"{whole} **One run a side**: it may be what differs between any two runs." if report.single else whole


def _figures(report: Report) -> Iterable[str]:
    if len(report.sides) == 1:
        rows = [(label(line), words.with_unit(line.second.value, line.metric), words.interval(line.second, line.metric))
                for line in report.lines]  # fmt: skip
        return table(("", "", "95% confidence"), rows)
    one, other = (safe(side.name) for side in report.sides)
    return table(("", one, other, "change", "95% confidence", "p"), [_compared(line) for line in report.lines])


def _compared(line: Line) -> tuple[str, ...]:
    assert line.first is not None
    assert line.change is not None
    share = "" if line.share is None or line.share.value is None else f" ({words.percent(line.share.value, True)})"
    changed = f"{words.signed(line.change, line.metric)}{share}"
    return (
        label(line),
        words.with_unit(line.first.value, line.metric),
        words.with_unit(line.second.value, line.metric),
        f"**{changed}**" if line.significant else changed,
        words.interval(line.change, line.metric, sign=True),
        words.chance(line.p),
    )


def label(line: Line) -> str:
    return words.METRIC_WORDS[line.metric] + ("" if line.metric == "failed" else f" {line.name}")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"| --- {'| ---: ' * (len(head) - 1)}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def safe(text: str) -> str:
    """Names come from a service and from files: none of them is to begin a link, a mention or a table's cell."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
