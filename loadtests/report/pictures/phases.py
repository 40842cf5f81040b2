"""Phase beside phase: the median and the tail of each. A ramp's knee, a soak's ten parts, a neighbour's noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loadtests.figures import percentile
from loadtests.outcome.rows import Row
from loadtests.report.pictures.axes import Linear, Log, around, ms
from loadtests.report.pictures.canvas import NARROW, WIDE, Canvas, text_width
from loadtests.report.pictures.tracks import latency_ms, tracks
from loadtests.report.sides import Subject

LEFT, RIGHT, PLOT, FOOT = 58.0, 16.0, 210.0, 40.0
TAIL, FAR_TAIL, FEWEST_FOR_FAR = 95, 99, 100  # percentiles, nearest rank; of how many values the farther one is told
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
    for place, one in enumerate(found):
        aside = (place - (len(found) - 1) / 2) * 0.36 if bars else 0.0
        at = Linear(x.low - aside, x.high - aside, x.at_low, x.at_high)
        (_bars if bars else _course)(canvas, one, at, y, (bottom, len(found)))
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


def _course(canvas: Canvas, one: Course, x: Linear, y: Log, place: tuple[float, int]) -> None:
    bottom, many = place
    median = [(x(k), y(step.p50_ms)) for k, step in enumerate(one.steps) if step.p50_ms is not None]
    tail = [(x(k), y(step.tail_ms)) for k, step in enumerate(one.steps) if step.tail_ms is not None]
    if many <= 2:
        canvas.area([*tail, *reversed(median)], one.colour, 0.12)
    canvas.path(tail, one.colour, width=1.8, dash="5 4")
    canvas.path(median, one.colour, width=2.4)
    canvas.dots(tail, one.colour, radius=3.0)
    canvas.dots(median, one.colour, radius=4.0)
    room = x(1) - x(0) > 52
    for k, step in enumerate(one.steps):
        for value, off in ((step.p50_ms, 17.0), (step.tail_ms, -9.0)):
            if value is not None and room:
                canvas.text((x(k), y(value) + off), _three(value), anchor="middle", colour="ink", size=10.5, halo=True)
        _failed(canvas, step, x(k), bottom)


def _bars(canvas: Canvas, one: Course, x: Linear, y: Log, place: tuple[float, int]) -> None:
    for k, step in enumerate(one.steps):
        if step.p50_ms is not None and step.tail_ms is not None:
            at, middle, end = x(k), y(step.p50_ms), y(step.tail_ms)
            canvas.box((at - 4, end), 8, middle - end, one.colour, opacity=0.35)
            canvas.line((at - 10, end), (at + 10, end), one.colour, 2.4)
            canvas.dots([(at, middle)], one.colour, radius=5.0)
            canvas.text((at + 15, middle + 4), _three(step.p50_ms), colour="ink", size=10.5, halo=True)
            if middle - end > 12:
                canvas.text((at + 15, end + 4), _three(step.tail_ms), size=10.5, halo=True)
        _failed(canvas, step, x(k), place[0])


def _failed(canvas: Canvas, step: Step, at: float, bottom: float) -> None:
    if step.failed:
        canvas.text((at, bottom - 4), f"{step.failed:,} failed", colour="bad", anchor="middle", bold=True, halo=True)


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
