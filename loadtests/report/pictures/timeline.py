"""A run over time: each request's latency, who asked and who was answered, and what the service was at: replicas by
state, tiers of the models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from loadtests.report.pictures import strips
from loadtests.report.pictures.axes import Linear, Log, around, clock, ms
from loadtests.report.pictures.canvas import NARROW, WIDE, Canvas, text_width
from loadtests.report.pictures.strips import LEFT, RIGHT, TIER_WORDS
from loadtests.report.pictures.tracks import Bin, Track, Wake, binned, edges_of, rates, thinned, tracks, wakes
from loadtests.report.sides import Subject

PLOT, STRIP = 250.0, 36.0
MOST_BANDS = 2  # shades of p50 to p95 that can be told apart
FEWEST_FOR_SHADE = 20
HEADLINE = 34.0


def draw(subject: Subject, width: float, headline: str = "") -> Canvas:
    """``headline``: of a picture that stands alone."""
    shown, document = tracks(subject), subject.shown.first
    service = document["series"]["service"]
    models, until_s = _models(document), _until_s(document, shown)
    known = wakes(subject.shown.rows, service)
    wide = width > NARROW
    canvas = Canvas(width, 0.0, headline or "Time to the first token over the run", _about(shown, known, document))
    if headline:
        canvas.text((LEFT, 22), headline, colour="ink", size=15, bold=True)
    first = HEADLINE if headline else 0.0
    what = "time to first token" if any(row.ttft_us is not None for row in subject.shown.rows) else "latency"
    canvas.text((LEFT, first + 13), what, colour="ink", bold=True)
    start = (LEFT + text_width(what) + 26, first + 12) if wide else (LEFT, first + 30)
    top = canvas.legend(start, _entries(shown, known), width - RIGHT) + 22
    x = Linear(0.0, until_s, LEFT, width - RIGHT)
    bottom = top + (PLOT if wide else PLOT - 40)
    scripted = document["kind"] == "script"  # one after the other: there is no rate
    asked = bottom if scripted else bottom + STRIP + strips.RATE
    below = asked + (_room(models) if models else 0.0)
    _phases(canvas, document, x, top, below)
    _latencies(canvas, (shown, known, edges_of(document)), x, (top, bottom))
    if not scripted:
        strips.arrivals(canvas, rates(subject.shown.rows, until_s, len(subject.shown.passes)), x, bottom + STRIP)
    if models:
        under = strips.replicas(canvas, service["at_s"], models, x, asked + STRIP)
        below = strips.tiers(canvas, service["at_s"], models, x, under + STRIP)
    _marks(canvas, document, x, top, below)
    for tick in x.ticks(9 if wide else 5):
        canvas.text((x(tick), below + 16), clock(round(tick, 6)), anchor="middle")
    canvas.height = below + 26
    return canvas


def both(subject: Subject) -> tuple[Canvas, Canvas]:
    return draw(subject, WIDE), draw(subject, NARROW)


def _room(models: dict[str, Any]) -> float:
    listed = (strips.TIER + strips.TIER_GAP) * min(len(models), strips.MODELS)
    return STRIP + strips.REPLICAS + STRIP + listed + (16 if len(models) > strips.MODELS else 0)


def _entries(shown: Sequence[Track], known: Sequence[Wake]) -> Iterator[tuple[str, str]]:
    for track in shown:
        name = track.name if len(shown) > 1 else "each request"
        banded = ", shade to p95" * (len(shown) <= MOST_BANDS)
        yield track.colour, f"{name}; line: median{banded}" if track.has_line else name
    if known:
        yield "wake", "waited for a start"
    if any(track.failed for track in shown):
        yield "bad", "failed"


def _models(document: dict[str, Any]) -> dict[str, Any]:
    """Those that the load asks, by how much they had to do; nothing where the target tells nothing."""
    found = document["series"]["service"].get("models") or {}
    return dict(sorted(found.items(), key=lambda one: -sum(count or 0 for count in one[1]["in_flight"])))


def _until_s(document: dict[str, Any], shown: Sequence[Track]) -> float:
    last = max((track.seen[-1][0] for track in shown if track.seen), default=0.0)
    return max(float(document["duration_s"]), last)


def _phases(canvas: Canvas, document: dict[str, Any], x: Linear, top: float, bottom: float) -> None:
    """With their rates, where there is room for them."""
    phases = document["phases"]
    if len(phases) < 2:
        return
    # Of several kinds of requests, a phase tells one kind's rate; one that is the same throughout is in the headline.
    told = not document["summary"].get("tags") and len({phase["rate_per_s"] for phase in phases}) > 1
    for number, phase in enumerate(phases):
        start, end = x(phase["from_s"]), x(phase["until_s"])
        if number % 2:
            canvas.box((start, top - 14), end - start, bottom - top + 14, "band", opacity=0.8)
        rate = f"{phase['rate_per_s']:g}/s" if phase["rate_per_s"] and told else ""
        longer = f"{phase['name']}, {rate}" if rate and rate != phase["name"] else phase["name"]
        for said in (longer, phase["name"]):
            if text_width(said, 10.5) < end - start - 4:
                canvas.text(((start + end) / 2, top - 3), said, size=10.5, anchor="middle", colour="ink")
                break


Drawn = tuple[Sequence[Track], Sequence[Wake], Sequence[float]]


def _latencies(canvas: Canvas, drawn: Drawn, x: Linear, span: tuple[float, float]) -> None:
    (shown, known, edges), (top, bottom) = drawn, span
    every = [latency for track in shown for _, latency in track.seen]
    if not every:
        canvas.text((LEFT + 8, (top + bottom) / 2), "nothing was answered", colour="bad")
        return
    y = Log(*around(min(every), max(every)), bottom, top + 12)
    for tick in y.ticks(8):
        canvas.line((LEFT, y(tick)), (canvas.width - RIGHT, y(tick)))
        canvas.text((LEFT - 8, y(tick) + 4), ms(tick), anchor="end")
    lines = [binned(track.seen, edges) if track.has_line else [] for track in shown]
    for track, line in zip(shown, lines, strict=True):
        _requests(canvas, track, x, y, line if len(shown) <= MOST_BANDS else [])
    for track, line in zip(shown, lines, strict=True):
        for stretch in line:
            points = [(x(at), y(one.p50_ms)) for at, one in _across(stretch)]
            canvas.path(points, "page", width=4.6, opacity=0.85)
            canvas.path(points, track.colour, width=2.4)
    _waits(canvas, known, x, y)
    for track in shown:
        # On a strip of their own, so that they are not taken for slow answers.
        canvas.crosses([(x(at), top + 4) for at in track.failed], "bad", 3.4)


def _across(stretch: Sequence[Bin]) -> list[tuple[float, Bin]]:
    """A line through the bins' middles, from the first one's beginning to the last one's end."""
    first, last = stretch[0], stretch[-1]
    middles = [(one.at_s, one) for one in stretch] if len(stretch) > 1 else []
    return [(first.at_s - first.wide_s / 2, first), *middles, (last.at_s + last.wide_s / 2, last)]


def _requests(canvas: Canvas, track: Track, x: Linear, y: Log, line: Sequence[Sequence[Bin]]) -> None:
    many = len(track.seen)
    opacity, radius = (0.8, 2.4) if many < 150 else (0.45, 2.0) if many < 700 else (0.25, 1.6)
    for stretch in line:
        if len(stretch) == 1 and stretch[0].count < FEWEST_FOR_SHADE:
            continue  # one slow request would shade a whole phase
        across = _across(stretch)
        edge = [(x(at), y(one.p95_ms)) for at, one in across]
        edge += [(x(at), y(one.p50_ms)) for at, one in reversed(across)]
        canvas.area(edge, track.colour, 0.2)
    canvas.dots([(x(at), y(value)) for at, value in thinned(track.seen)], track.colour, radius=radius, opacity=opacity)


def _waits(canvas: Canvas, known: Sequence[Wake], x: Linear, y: Log) -> None:
    """A diamond each; what it was, where there is room for the words."""
    taken: list[tuple[float, float, float]] = []
    for wake in known:
        at = x(wake.at_s), y(wake.ttft_ms)
        canvas.diamond(at, "wake", tip=_said(wake))
        said = f"from {TIER_WORDS[wake.tier]}" if wake.tier in TIER_WORDS and wake.tier != "gpu" else "a start"
        said = f"{said}, {ms(float(f'{wake.ttft_ms:.3g}'))}"
        wide, left = text_width(said, 10.5), at[0] + 9
        free = all(abs(at[1] - line) > 13 or left > end or left + wide < begun for begun, end, line in taken)
        if free and left + wide < canvas.width - RIGHT and len(known) <= 12:
            canvas.text((left, at[1] + 4), said, colour="ink", size=10.5, halo=True)
            taken.append((at[0] - 8, left + wide, at[1]))


def _said(wake: Wake) -> str:
    others = f", {wake.waited} waited" if wake.waited > 1 else ""
    return f"{wake.model} started ({TIER_WORDS.get(wake.tier, 'from where is not known')}){others}"


def _marks(canvas: Canvas, document: dict[str, Any], x: Linear, top: float, bottom: float) -> None:
    """Kills and orders. In ink on a panel: a red line alone would be lost among failures."""
    for mark in document["marks"]:
        if mark["what"] == "reached":
            continue
        at, said = x(mark["at_s"]), f"{mark['what']} {mark['detail']}"[:40]
        canvas.line((at, top - 4), (at, bottom), "bad", 1.6, "5 3")
        wide = text_width(said) + 10
        left = at + 4 if at + wide + 8 < canvas.width - RIGHT else at - wide - 4
        canvas.box((left, top + 10), wide, 17, "bad", round=3)
        canvas.text((left + 5, top + 22), said, colour="on-bar", bold=True)


def _about(shown: Sequence[Track], known: Sequence[Wake], document: dict[str, Any]) -> str:
    said = [f"{track.name}: {len(track.seen)} answered, {len(track.failed)} failed" for track in shown]
    said += [_said(wake) for wake in known[:8]]
    return "; ".join([*said, f"{document['duration_s']:.0f} s"])
