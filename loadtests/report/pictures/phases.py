"""Phase beside phase: the median and the tail of each. A ramp's knee, a soak's ten parts, a neighbour's noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loadtests.figures import percentile
from loadtests.outcome.rows import Row
from loadtests.report.pictures.axes import Linear, Log, around, ms
from loadtests.report.pictures.canvas import NARROW, WIDE, Canvas
from loadtests.report.pictures.letters import text_width
from loadtests.report.pictures.places import Box, Places, Spot
from loadtests.report.pictures.tracks import latency_ms, tracks
from loadtests.report.sides import Subject

LEFT, RIGHT, PLOT, FOOT = 58.0, 16.0, 210.0, 40.0
TAIL, FAR_TAIL, FEWEST_FOR_FAR = 95, 99, 100  # percentiles, nearest rank; of how many values the farther one is told
WORDS = 10.5  # size of the values
MOST_BARS = 3  # phases that are no course: bars beside each other, not a line


@dataclass(frozen=True, slots=True)
class Step:
    """Milliseconds; None where nothing was answered."""

    p50_ms: float | None
    tail_ms: float | None
    failed: int


@dataclass(frozen=True, slots=True)
class Course:
    """One kind of requests through all phases."""

    name: str
    colour: str
    steps: list[Step]


def worth_it(subject: Subject) -> bool:
    return len(subject.sides) == 1 and len(subject.shown.first["phases"]) > 1


def courses(subject: Subject) -> tuple[list[Course], str]:
    """By tag where the suite tells requests apart; also what the tail is."""
    rows, phases = subject.shown.rows, subject.shown.first["phases"]
    told = [(track.name, track.colour) for track in tracks(subject) if any(row.tag == track.name for row in rows)]
    parts = {name: [_of(rows, name, k) for k in range(len(phases))] for name, _ in told or [("", "")]}
    fewest = min((len(one) for each in parts.values() for one, _ in each if one), default=0)
    tail = FAR_TAIL if fewest >= FEWEST_FOR_FAR else TAIL
    found = []
    for name, colour in told or [("", "through")]:
        steps = [
            Step(percentile(seen, 50), percentile(seen, tail), failed) if seen else Step(None, None, failed)
            for seen, failed in parts[name]
        ]
        found.append(Course(name, colour, steps))
    return found, f"p{tail}"


def _of(rows: Sequence[Row], tag: str, place: int) -> tuple[list[float], int]:
    mine = [row for row in rows if row.phase == place and (not tag or row.tag == tag)]
    return sorted(latency_ms(row) for row in mine if not row.error), sum(bool(row.error) for row in mine)


def draw(subject: Subject, knee: dict[str, Any] | None, width: float) -> Canvas:
    found, tail = courses(subject)
    phases = [str(phase["name"]) for phase in subject.shown.first["phases"]]
    canvas = Canvas(width, 0.0, "Latency of each phase", _about(found, phases, tail))
    bars = len(phases) <= MOST_BARS
    drawn = f"median (dot) to {tail}" if bars else f"median (line), {tail} (dashes)"
    entries = [(one.colour, f"{one.name}: {drawn}" if one.name else drawn) for one in found]
    if any(step.failed for one in found for step in one.steps):
        entries.append(("bad", "failed"))
    top = canvas.legend((LEFT, 12), entries, width - RIGHT) + 12
    bottom = top + PLOT
    known = [value for one in found for step in one.steps for value in (step.p50_ms, step.tail_ms) if value]
    canvas.height = bottom + FOOT
    if not known:
        canvas.text((LEFT, top + 20), "nothing was answered", colour="bad")
        return canvas
    y = Log(*around(min(known), max(known)), bottom - 20, top + 14)
    for tick in y.ticks(7):
        canvas.line((LEFT, y(tick)), (width - RIGHT, y(tick)))
        canvas.text((LEFT - 8, y(tick) + 4), ms(tick), anchor="end")
    x = Linear(-0.5, len(phases) - 0.5, LEFT, width - RIGHT)
    _names(canvas, phases, x, bottom)
    if knee and knee.get("step") in phases:
        _knee(canvas, phases.index(knee["step"]), len(phases), x, (top, bottom))
    apart = min(0.36, 0.8 / len(found))  # of a phase, from one bar to the next
    placed: list[tuple[Course, Linear]] = []
    for place, one in enumerate(found):
        aside = (place - (len(found) - 1) / 2) * apart if bars else 0.0
        at = Linear(x.low - aside, x.high - aside, x.at_low, x.at_high)
        placed.append((one, at))
        if bars:
            _bars(canvas, one, at, y)
        else:
            _course(canvas, one, at, y, len(found))
    places = Places(Box(LEFT, top, width, bottom))
    for one, at in placed:
        for k, step in enumerate(one.steps):
            _failed(canvas, step, at(k), places)
    places.take(box for one, at in placed for k, step in enumerate(one.steps) for box in _drawn(step, at(k), y, bars))
    _values(canvas, placed, y, places, apart if bars else 0.0)
    return canvas


def both(subject: Subject, knee: dict[str, Any] | None) -> tuple[Canvas, Canvas]:
    return draw(subject, knee, WIDE), draw(subject, knee, NARROW)


def _names(canvas: Canvas, phases: Sequence[str], x: Linear, bottom: float) -> None:
    each = x(1) - x(0)
    until = -1e9
    for place, name in enumerate(phases):
        wide = text_width(name)
        left = min(max(x(place) - wide / 2, 0.0), canvas.width - wide)
        canvas.line((x(place), bottom), (x(place), bottom + 4), "soft")
        if left > until or wide < each:
            canvas.text((left, bottom + 18), name)
            until = left + wide + 6


def _knee(canvas: Canvas, place: int, count: int, x: Linear, span: tuple[float, float]) -> None:
    """Beyond it is shaded."""
    top, bottom = span
    if place + 1 == count:
        canvas.text((canvas.width - RIGHT, top + 4), "no knee up to here", colour="ink", anchor="end", halo=True)
        return
    edge = x(place + 0.5)
    canvas.box((edge, top), x.at_high - edge, bottom - top, "bad", opacity=0.07)
    canvas.line((edge, top), (edge, bottom), "bad", 1.6, "5 3")
    canvas.text((edge - 6, top + 10), "the knee", colour="bad", anchor="end", bold=True, halo=True)


def _course(canvas: Canvas, one: Course, x: Linear, y: Log, many: int) -> None:
    median = [(x(k), y(step.p50_ms)) for k, step in enumerate(one.steps) if step.p50_ms is not None]
    tail = [(x(k), y(step.tail_ms)) for k, step in enumerate(one.steps) if step.tail_ms is not None]
    if many <= 2:
        canvas.area([*tail, *reversed(median)], one.colour, 0.12)
    canvas.path(tail, one.colour, width=1.8, dash="5 4")
    canvas.path(median, one.colour, width=2.4)
    canvas.dots(tail, one.colour, radius=3.0)
    canvas.dots(median, one.colour, radius=4.0)


def _bars(canvas: Canvas, one: Course, x: Linear, y: Log) -> None:
    for k, step in enumerate(one.steps):
        if step.p50_ms is not None and step.tail_ms is not None:
            at, middle, end = x(k), y(step.p50_ms), y(step.tail_ms)
            canvas.box((at - 4, end), 8, middle - end, one.colour, opacity=0.35)
            canvas.line((at - 10, end), (at + 10, end), one.colour, 2.4)
            canvas.dots([(at, middle)], one.colour, radius=5.0)


def _drawn(step: Step, at: float, y: Log, bars: bool) -> list[Box]:
    """What no words are to lie on."""
    if step.p50_ms is None or step.tail_ms is None:
        return []
    middle, end = y(step.p50_ms), y(step.tail_ms)
    if bars:
        return [Box(at - 10, end - 2, at + 10, middle + 5)]
    return [Box(at - 4, middle - 4, at + 4, middle + 4), Box(at - 3, end - 3, at + 3, end + 3)]


def _values(canvas: Canvas, drawn: Sequence[tuple[Course, Linear]], y: Log, places: Places, apart: float) -> None:
    """Beside bars where there is room; else under a median and over a tail, as far away as others make it."""
    steps = [(one.steps[k], x(k)) for one, x in drawn for k in range(len(one.steps))]
    across = drawn[0][1]
    each = (across(1) - across(0)) * (apart or 1.0)
    told = [_three(value) for step, _ in steps for value in (step.p50_ms, step.tail_ms) if value is not None]
    widest = max(text_width(said, WORDS) for said in told)
    beside = apart > 0 and each > widest + 30
    if apart == 0 and each < min(52.0, widest + 6):
        return  # a course of many phases: a few of its values would tell less than its axis
    unit = each > widest + 6
    for step, at in steps:
        if step.p50_ms is None or step.tail_ms is None:
            continue
        for value, away, colour in ((step.p50_ms, 1, "ink"), (step.tail_ms, -1, "soft" if apart else "ink")):
            if beside and away < 0 and y(step.p50_ms) - y(value) <= 12:
                continue
            said = _three(value) if unit else _three(value).removesuffix(" ms")  # which its axis has
            first = y(value) + (18.0 if away > 0 else -9.0)
            spots = [Spot(at + 15, y(value) + 4)] * beside
            spots += [Spot(at, first + away * line * 13.0, "middle") for line in range(5)]
            if spot := places.spot(said, spots, WORDS):
                canvas.text((spot.x, spot.y), said, colour=colour, size=WORDS, anchor=spot.anchor, halo=True)


def _failed(canvas: Canvas, step: Step, at: float, places: Places) -> None:
    """In as many lines as neighbours need."""
    if step.failed:
        said = f"{step.failed:,} failed"
        spots = [Spot(at, places.whole.bottom - 4 - line * 14, "middle") for line in range(6)]
        spot = places.spot(said, spots, bold=True) or spots[0]
        canvas.text((spot.x, spot.y), said, colour="bad", anchor="middle", bold=True, halo=True)


def _three(value: float) -> str:
    """Three digits tell enough."""
    return ms(float(f"{value:.3g}"))


def _about(found: Sequence[Course], phases: Sequence[str], tail: str) -> str:
    said = []
    for one in found:
        for name, step in zip(phases, one.steps, strict=True):
            if step.p50_ms is not None and step.tail_ms is not None:
                said.append(f"{one.name} {name}: median {_three(step.p50_ms)}, {tail} {_three(step.tail_ms)}".strip())
    return "; ".join(said)
