"""The report as one HTML file that needs nothing else: no script, no font, no request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from loadtests.report import words
from loadtests.report.content import Line, Report, SideFacts, Span
from loadtests.report.gallery import gallery
from loadtests.report.pictures.canvas import plain
from loadtests.report.sides import COST, RUN, Subject
from loadtests.report.style import STYLE

_FIGURES = ("requests", "failed", "requests_per_s")
_SPREADS = ("ttft_ms", "gap_ms", "e2e_ms")


def page(subject: Subject, report: Report) -> str:
    title, cards = words.title(report), list(_cards(report))
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<title>{plain(title)}</title><link rel="icon" href="data:,"><style>{STYLE}</style></head><body><main>',
            f'<header><h1>{plain(title)}</h1><p class="soft">{plain(_about(report))}</p>',
            f'<div class="badges">{"".join(_badges(report))}</div></header>',
            f'<section class="cards n{len(cards)}">{"".join(cards)}</section>',
            *gallery(subject, report),
            *_tables(report),
            *_notes(report),
            *_details(report),
            "</main></body></html>",
            "",
        ]
    )


def _about(report: Report) -> str:
    side = report.sides[-1]
    when = datetime.fromtimestamp(side.started_unix_s[0], UTC)
    passes = f", {side.passes} passes a side in turns" if report.kind == COST else ""
    return f"{report.load}{passes}; {when:%Y-%m-%d %H:%M} UTC"


def _badges(report: Report) -> Iterator[str]:
    yield _badge(words.verdict(report), "good" if report.kept else "bad")
    yield _badge("valid", "good") if report.valid else _badge("not valid", "bad")
    if report.simulated:
        yield _badge("simulated GPUs", "warn")
    if len(report.sides) > 1:
        yield _badge("paired requests" if report.pairs else "paired passes" if report.paired else "not paired", "")
        if min(side.passes for side in report.sides) == 1:
            yield _badge("one run a side", "warn")


def _badge(text: str, kind: str) -> str:
    return f'<span class="badge {kind}">{plain(text)}</span>'


def _cards(report: Report) -> Iterator[str]:
    if report.kind == RUN:
        for key, what in (("ttft_ms.p50", "TTFT, median"), ("ttft_ms.p99", "TTFT, p99"), ("gap_ms.p99", "gap, p99")):
            if line := report.line(key):
                yield _card(what, words.with_unit(line.second.value), _ci(line.second))
        if not report.line("ttft_ms.p50") and (line := report.line("e2e_ms.p50")):
            yield _card("end to end, median", words.with_unit(line.second.value), _ci(line.second))
        side = report.sides[0]
        yield _card("answered a second", f"{side.requests_per_s:g}", f"{side.output_tokens_per_s:,.0f} tokens a second")
    else:
        for key, what in (("ttft_ms.p50", "TTFT, median"), ("ttft_ms.p99", "TTFT, p99"), ("gap_ms.mean", "gap, mean")):
            if (line := report.line(key)) and line.change is not None:
                yield _change_card(line, what)
    if report.parts:
        own = [one.mean_ms.value or 0.0 for one in report.parts if one.part in ("auth", "queue", "wake", "connect")]
        yield _card("waits in the gateway, mean", words.with_unit(sum(own)), "auth, queue, wake and connect")
    side = report.sides[-1]
    kind = "bad" if side.failed else "good"
    yield _card("failed", f"{side.failed:,}", f"of {side.requests:,} requests", kind)


def _change_card(line: Line, what: str) -> str:
    assert line.change is not None
    kind = "" if not line.significant else "bad" if (line.change.value or 0.0) > 0 else "good"
    share = f" ({words.percent(line.share.value, True)})" if line.share and line.share.value is not None else ""
    said = words.judged(line)
    return _card(
        what, words.signed(line.change, line.metric), f"{said}{share}; {_ci(line.change, line.metric, True)}", kind
    )


def _card(what: str, value: str, more: str, kind: str = "") -> str:
    return (
        f'<div class="card"><span class="what">{plain(what)}</span><b class="{kind}">{plain(value)}</b>'
        f"<span>{plain(more)}</span></div>"
    )


def _ci(span: Span, metric: str = "ttft_ms", sign: bool = False) -> str:
    return f"95%: {words.interval(span, metric, sign)}"


def _tables(report: Report) -> Iterator[str]:
    """Side by side where there is room: figures, and beside them what they are made of and held to."""
    if len(report.sides) > 1:
        yield from _figures(report)
        yield from _shares(report)
        yield from _goals(report)
        return
    yield '<div class="two"><div>'
    yield from _figures(report)
    yield "</div><div>"
    yield from _shares(report)
    yield from _goals(report)
    yield "</div></div>"


def _figures(report: Report) -> Iterator[str]:
    yield f"<section><h2>Figures</h2><p class='soft'>{plain(_how(report))}</p>"
    if len(report.sides) > 1:
        names = [side.name for side in report.sides]
        yield _table(("", *names, "change", "", "p", ""), [_compared(line) for line in report.lines])
    else:
        yield _table(("", "", "95% confidence"), [_alone(line) for line in report.lines])
    yield "</section>"


def _shares(report: Report) -> Iterator[str]:
    if report.parts:
        rows = [
            (words.PART_WORDS[one.part], words.with_unit(mean.value), words.interval(mean), words.percent(one.share))
            for one in report.parts
            for mean in [one.mean_ms]
        ]
        yield "<section><h2>Parts of the mean TTFT</h2><p class='soft'>What the bars above are made of.</p>"
        yield _table(("", "mean", "95% confidence", "share"), rows)
        yield "</section>"


def _alone(line: Line) -> tuple[str, ...]:
    found = words.with_unit(line.second.value, line.metric), words.interval(line.second, line.metric)
    return (_label(line), *map(plain, found))


def _compared(line: Line) -> tuple[str, ...]:
    assert line.first is not None
    assert line.change is not None
    share = "" if line.share is None or line.share.value is None else words.percent(line.share.value, True)
    said = "significant" if line.significant else ""
    kind = "bad" if (line.change.value or 0.0) > 0 else "good"
    return (
        _label(line),
        _cell(line.first, line.metric),
        _cell(line.second, line.metric),
        f"{plain(words.signed(line.change, line.metric))}<small>{plain(_bounds(line))}</small>",
        plain(share),
        plain(words.chance(line.p)),
        f'<b class="{kind}">{said}</b>' if said else "",
    )


def _bounds(line: Line) -> str:
    """Of shares, in points of a percent, as the change is."""
    span = line.change
    assert span is not None
    if line.metric != "failed":
        return words.interval(span, line.metric, sign=True)
    low, high = (None if end is None else end * 100 for end in (span.low, span.high))
    return words.interval(Span(span.value, low, high), "points", sign=True)


def _label(line: Line) -> str:
    return plain(words.METRIC_WORDS[line.metric] + ("" if line.metric == "failed" else f" {line.name}"))


def _cell(span: Span, metric: str) -> str:
    return f"{plain(words.with_unit(span.value, metric))}<small>{plain(words.interval(span, metric))}</small>"


def _how(report: Report) -> str:
    if report.kind == RUN:
        return f"Block bootstrap over the requests, {report.block} a block."
    passes = [side.passes for side in report.sides]
    adjusted = "p adjusted after Holm for all lines together."
    if max(passes) > 1:
        return (
            f"Means of {' and '.join(map(str, sorted(set(passes))))} passes; what differs between passes counts "
            f"(Student's t). {adjusted}"
        )
    how = "Exchanging the sides of pairs" if report.pairs else "Exchanging requests between the sides"
    return f"{how}, in blocks of {report.block}; intervals by block bootstrap. {adjusted}"


def _goals(report: Report) -> Iterator[str]:
    yield "<section><h2>Goals</h2>"
    rows = []
    for goal in report.goals:
        metric = "failed" if goal.what.endswith("share") else "plain"
        verdict = '<b class="good">kept</b>' if goal.kept else '<b class="bad">missed</b>'
        rows.append((plain(goal.what), _measured(goal.measured, metric), _measured(goal.limit, metric), verdict))
    yield _table(("", "measured", "goal", ""), rows)
    yield "</section>"


def _measured(value: float | None, metric: str) -> str:
    return plain("nothing" if value is None else words.percent(value) if metric == "failed" else words.number(value))


def _notes(report: Report) -> Iterator[str]:
    if report.notes:
        listed = "".join(f"<li>{plain(note)}</li>" for note in report.notes)
        yield f'<section><h2>Read it with care</h2><ul class="notes">{listed}</ul></section>'


def _details(report: Report) -> Iterator[str]:
    yield "<section><h2>Details</h2>"
    if report.groups:
        yield f"<details><summary>By {_kinds(report)}</summary>{_groups(report)}</details>"
    errors = [(side.name, error) for side in report.sides for error in side.errors]
    if errors:
        rows = [(plain(name), f"{one['count']:,}", plain(one["code"]), plain(one["first"])) for name, one in errors]
        yield f"<details open><summary>Errors</summary>{_table(('', 'count', 'code', 'first one'), rows)}</details>"
    yield f"<details><summary>What was run, and where</summary>{_facts(report)}</details></section>"


def _kinds(report: Report) -> str:
    return ", ".join(dict.fromkeys(group.kind for group in report.groups))


def _groups(report: Report) -> str:
    rows = []
    for group in report.groups:
        cells = [f"{plain(group.name)}<small>{group.kind}</small>", *(f"{group.figures[name]:,g}" for name in _FIGURES)]
        for spread in _SPREADS:
            figures = group.figures[spread]
            cells += [words.number(figures.get("p50")), words.number(figures.get("p99"))]
        rows.append(tuple(cells))
    head = ["", "requests", "failed", "a second"]
    head += [f"{name} {p}, ms" for name in ("TTFT", "gap", "E2E") for p in ("p50", "p99")]
    return _table(head, rows)


def _facts(report: Report) -> str:
    machine = report.environment.get("machine", {})
    facts: list[tuple[str, str]] = []
    for side in report.sides:
        target = side.target
        version = f", {target['service']} {target['version']}" if target.get("version") else ""
        facts.append(
            (
                side.name,
                f"{target.get('url')}{version}, plan {side.digest}, {_each(side)}",
            )
        )
    if report.knee:
        facts.append(("knee", f"{report.knee.get('step')}; beyond it: {report.knee.get('because')}"))
    ram_gib = (machine.get("ram_bytes") or 0) / 2**30
    facts.append(("machine", f"{machine.get('cpu')}, {machine.get('cores')} cores, {ram_gib:.0f} GiB"))
    facts.append(("GPUs", ", ".join(machine.get("gpus") or []) or "none"))
    facts.append(
        ("versions", ", ".join(f"{name} {version}" for name, version in report.environment.get("versions", {}).items()))
    )
    facts.append(("settings", ", ".join(f"{name}={value}" for name, value in _said(report.settings))))
    listed = "".join(f"<dt>{plain(name)}</dt><dd>{plain(text)}</dd>" for name, text in facts)
    return f"<dl>{listed}</dl>{_again(report)}"


def _each(side: SideFacts) -> str:
    return f"{side.passes} × {side.requests // max(1, side.passes):,} requests"


def _said(settings: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    return ((name, value) for name, value in settings.items() if value not in ("", [], {}, 0, 0.0, False))


def _again(report: Report) -> str:
    if not report.argv:
        return ""
    return f"<p class='soft'>Again:</p><pre>roundhouse loadtest {plain(' '.join(report.argv))}</pre>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML, and so are those of ``rows``."""
    names = "".join(f"<th>{plain(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide-table"><table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table></div>'
