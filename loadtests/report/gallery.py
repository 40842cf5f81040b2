"""The page's pictures: which of them a report has, and in what order."""

from __future__ import annotations

from collections.abc import Iterator

from loadtests.report.content import Report
from loadtests.report.pictures import changes, models, percentiles, phases, timeline, tracks, waterfall
from loadtests.report.pictures.canvas import Canvas, plain
from loadtests.report.sides import COST, RUN, Subject

FEWEST_FOR_CURVE = 20  # requests; a curve of fewer shows each of them, and nothing more


def gallery(subject: Subject, report: Report) -> Iterator[str]:
    """A run's own story first; of two sides, the cost and what changed; of first hits, what each tier costs."""
    story = [*_over_time(subject, report), *_phase_by_phase(subject, report), *_model_by_model(subject, report)]
    if report.kind == RUN and subject.shown.first["kind"] != "script":
        yield from story
        yield from _parts(report)
    else:
        yield from _parts(report)
        yield from _changes(report)
        yield from story
    yield from _distribution(subject, report)


def _streamed(report: Report) -> bool:
    return report.line("ttft_ms.mean") is not None


def _parts(report: Report) -> Iterator[str]:
    if not report.waterfalls or not (report.parts or report.kind == COST):
        return
    streamed = _streamed(report)
    beside = (
        " <i>Engine alone</i>: the same load without Roundhouse, its requests of the same rank; below it all parts in "
        "one bar." * (report.kind == COST)
    )
    yield _figure(
        "Where the time to the first token goes" if streamed else "Where the time of an answer goes",
        waterfall.both(report.waterfalls, "TTFT" if streamed else "answer"),
        "Parts of the answers' own Server-Timing, and what the caller saw; means, so that they add up. "
        f"<i>Network</i> is the way to the answer's head less all other parts.{beside}",
    )


def _changes(report: Report) -> Iterator[str]:
    if len(report.sides) > 1 and changes.shown(report.lines):
        one, other = (plain(side.name) for side in report.sides)
        yield _figure(
            "What changed",
            changes.both(report.lines),
            f"{other} against {one}: each figure's change and its 95% interval. Coloured where it is significant, all "
            "figures taken together.",
        )


def _over_time(subject: Subject, report: Report) -> Iterator[str]:
    yield _figure(
        f"{'Time to the first token' if _streamed(report) else 'Latency'} over the run",
        timeline.both(subject),
        "A dot is a request, at the time it was due; a diamond one that waited for its model to start, and from where. "
        "Below: who asked and who was answered, and what the service told of itself meanwhile.",
    )


def _phase_by_phase(subject: Subject, report: Report) -> Iterator[str]:
    if phases.worth_it(subject):
        because = str(report.knee["because"]) if report.knee and report.knee.get("next_step") else ""
        yield _figure(
            "Phase by phase",
            phases.both(subject, report.knee),
            f"{'TTFT' if _streamed(report) else 'Latency'} of the requests that were due in each."
            + (f" Beyond the knee {plain(because)}." if because else ""),
        )


def _model_by_model(subject: Subject, report: Report) -> Iterator[str]:
    if models.worth_it(subject):
        yield _figure(
            "Model by model",
            models.both(subject),
            f"{'TTFT' if _streamed(report) else 'Latency'} of every request. Most asked for first.",
        )


def _distribution(subject: Subject, report: Report) -> Iterator[str]:
    if min(side.requests - side.failed for side in report.sides) < FEWEST_FOR_CURVE:
        return
    streamed = _streamed(report)
    metric = "ttft_ms" if streamed else "e2e_ms"
    drawn = [
        percentiles.curve(side, metric, colour, report.block)
        for side, colour in zip(subject.sides, tracks.colours(subject), strict=True)
    ]
    if known := [one for one in drawn if one is not None]:
        several = " Thin lines: each pass." * any(one.passes for one in known)
        yield _figure(
            "Distribution",
            percentiles.both(known, "Latency by percentile"),
            f"{'TTFT' if streamed else 'Latency'} at each percentile; the tail has as much room as the middle. Shaded: "
            f"95% confidence, at each point.{several}",
        )


def _figure(title: str, drawn: tuple[Canvas, Canvas], caption: str) -> str:
    """``caption``: HTML."""
    wide, narrow = drawn
    pictures = wide.svg("wide") + narrow.svg("narrow")
    return f"<section><h2>{plain(title)}</h2><figcaption>{caption}</figcaption><figure>{pictures}</figure></section>"
