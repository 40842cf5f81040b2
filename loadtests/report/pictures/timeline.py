"""Each request's latency over time, and under it what the service was at: replicas by state, tiers of the models."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from loadtests.figures import percentile
from loadtests.outcome.rows import Row
from loadtests.report.pictures.axes import Linear, Log, around, clock, ms
from loadtests.report.pictures.canvas import NARROW, WIDE, Canvas, Point, text_width
from loadtests.report.sides import COST, Subject

LEFT, RIGHT = 78.0, 14.0
PLOT, REPLICAS, TIER, STRIP = 250.0, 74.0, 13.0, 36.0
BINS = 60  # of the line of medians
FEWEST_IN_BIN, FEWEST_FOR_LINE = 3, 24
DOTS = 1500  # a side; of more, the slowest are kept and the others thinned
MODELS = 8
TAG_COLOURS = ("through", "queue", "wake", "auth")
STATES = ("ready", "starting", "draining", "asleep")
TIERS = ("gpu", "host", "page_cache", "disk", "remote")
TIER_WORDS = {"gpu": "on a GPU", "host": "host memory", "page_cache": "page cache", "disk": "disk", "remote": "remote"}


@dataclass(frozen=True, slots=True)
class Track:
    """A side's requests: seconds and milliseconds, and when those that failed were due."""

    name: str
    colour: str
    seen: list[Point]
    failed: list[float]

    @property
    def median_ms(self) -> float:
        return percentile(sorted(latency for _, latency in self.seen), 50) if self.seen else math.inf


def colours(subject: Subject) -> list[str]:
    """Of each side."""
    if len(subject.sides) == 1:
        return ["through"]
    return ["direct" if subject.kind == COST else "first", "through"]


def tracks(subject: Subject) -> list[Track]:
    """Of a single run whose suite tells requests apart: one for each tag."""
    if len(subject.sides) == 1:
        rows = subject.shown.rows
        tags = sorted({row.tag for row in rows if row.tag})
        if 1 < len(tags) <= len(TAG_COLOURS):
            found = [_track(tag, "", [row for row in rows if row.tag == tag]) for tag in tags]
            found.sort(key=lambda track: track.median_ms)
            return [replace(track, colour=colour) for track, colour in zip(found, TAG_COLOURS, strict=False)]
    return [_track(side.name, colour, side.rows) for side, colour in zip(subject.sides, colours(subject), strict=True)]


def _track(name: str, colour: str, rows: Sequence[Row]) -> Track:
    seen = [(row.begun_us / 1e6, latency) for row in rows if not row.error and (latency := _latency_ms(row)) > 0]
    return Track(name, colour, sorted(seen), [row.begun_us / 1e6 for row in rows if row.error])


def _latency_ms(row: Row) -> float:
    return (row.e2e_us if row.ttft_us is None else row.ttft_us) / 1e3


def draw(subject: Subject, width: float) -> Canvas:
    shown, document = tracks(subject), subject.shown.first
    models = _models(document)
    tall = PLOT if width > NARROW else PLOT - 40
    entries = _entries(shown)
    canvas = Canvas(width, 0.0, "Time to the first token over the run", _about(shown, document))
    top = canvas.legend((LEFT, 12), entries, width - RIGHT) + 22
    x = Linear(0.0, _until_s(document, shown), LEFT, width - RIGHT)
    bottom = top + tall
    below = bottom
    if models:
        below = bottom + STRIP + REPLICAS + STRIP + (TIER + 5) * min(len(models), MODELS)
    _phases(canvas, document, x, top, below)
    _latencies(canvas, shown, x, top, bottom)
    for mark in document["marks"]:
        if mark["what"] != "reached":
            canvas.line((x(mark["at_s"]), top - 4), (x(mark["at_s"]), below), "bad", 1.4, "4 3")
            canvas.text((x(mark["at_s"]) + 4, top + 10), f"{mark['what']} {mark['detail']}"[:40], colour="bad")
    if models:
        at_s = document["series"]["service"]["at_s"]
        under = _replicas(canvas, at_s, models, x, bottom + STRIP)
        under = _tiers(canvas, at_s, models, x, under + STRIP)
        below = under
    for tick in x.ticks(9 if width > NARROW else 5):
        canvas.text((x(tick), below + 16), clock(round(tick, 6)), anchor="middle")
    canvas.height = below + 26
    return canvas


def both(subject: Subject) -> tuple[Canvas, Canvas]:
    return draw(subject, WIDE), draw(subject, NARROW)


def _entries(shown: Sequence[Track]) -> Iterator[tuple[str, str]]:
    for track in shown:
        name = track.name if len(shown) > 1 else "each request"
        yield track.colour, f"{name}; line: median" if len(track.seen) >= FEWEST_FOR_LINE else name
    if any(track.failed for track in shown):
        yield "bad", "failed"


def _models(document: dict[str, Any]) -> dict[str, Any]:
    """By how much they had to do; nothing where the target tells nothing."""
    found = document["series"]["service"].get("models") or {}
    return dict(sorted(found.items(), key=lambda one: -sum(count or 0 for count in one[1]["in_flight"])))


def _until_s(document: dict[str, Any], shown: Sequence[Track]) -> float:
    last = max((track.seen[-1][0] for track in shown if track.seen), default=0.0)
    return max(float(document["duration_s"]), last)


def _phases(canvas: Canvas, document: dict[str, Any], x: Linear, top: float, bottom: float) -> None:
    phases = document["phases"]
    if len(phases) < 2:
        return
    for number, phase in enumerate(phases):
        start, end = x(phase["from_s"]), x(phase["until_s"])
        if number % 2:
            canvas.box((start, top - 12), end - start, bottom - top + 12, "band", opacity=0.7)
        if text_width(phase["name"], 10.5) < end - start - 4:
            canvas.text(((start + end) / 2, top - 2), phase["name"], size=10.5, anchor="middle")


def _latencies(canvas: Canvas, shown: Sequence[Track], x: Linear, top: float, bottom: float) -> None:
    every = [latency for track in shown for _, latency in track.seen]
    if not every:
        canvas.text((LEFT + 8, (top + bottom) / 2), "nothing was answered", colour="bad")
        return
    y = Log(*around(min(every), max(every)), bottom, top + 8)
    for tick in y.ticks(8):
        canvas.line((LEFT, y(tick)), (canvas.width - RIGHT, y(tick)))
        canvas.text((LEFT - 8, y(tick) + 4), ms(tick), anchor="end")
    many = sum(len(track.seen) for track in shown)
    opacity, radius = (0.75, 2.4) if many < 300 else (0.4, 1.8) if many < 1500 else (0.25, 1.6)
    for track in shown:
        canvas.dots(
            [(x(at), y(latency)) for at, latency in thinned(track.seen)], track.colour, radius=radius, opacity=opacity
        )
    for track in shown:
        line = [(x(at), y(latency)) for at, latency in medians(track.seen, x.high)]
        if len(track.seen) >= FEWEST_FOR_LINE:
            canvas.path(line, "page", width=4.2, opacity=0.8)
            canvas.path(line, track.colour, width=2.2)
        canvas.crosses([(x(at), top + 2) for at in track.failed], "bad")


def thinned(seen: Sequence[Point], most: int = DOTS) -> list[Point]:
    """All of the slowest 5%, and evenly chosen others."""
    if len(seen) <= most:
        return list(seen)
    slow = percentile(sorted(latency for _, latency in seen), 95)
    tail = [point for point in seen if point[1] > slow][: most // 2]
    rest = [point for point in seen if point[1] <= slow]
    step = len(rest) / (most - len(tail))
    return tail + [rest[int(k * step)] for k in range(most - len(tail))]


def medians(seen: Sequence[Point], until_s: float, bins: int = BINS) -> list[Point]:
    """Of neighbours: as many bins as there are, each with a few requests at least."""
    if not seen:
        return []
    count = max(1, min(bins, len(seen) // 8))
    wide = max(until_s, 1e-9) / count
    grouped: dict[int, list[float]] = {}
    for at, latency in seen:
        grouped.setdefault(min(count - 1, math.floor(at / wide)), []).append(latency)
    return [
        ((place + 0.5) * wide, percentile(sorted(inside), 50))
        for place, inside in sorted(grouped.items())
        if len(inside) >= FEWEST_IN_BIN
    ]


def _replicas(canvas: Canvas, at_s: Sequence[float], models: dict[str, Any], x: Linear, top: float) -> float:
    totals = {state: [sum(one[state][k] or 0 for one in models.values()) for k in range(len(at_s))] for state in STATES}
    most = max(1, *(sum(totals[state][k] for state in STATES) for k in range(len(at_s))))
    bottom = top + REPLICAS
    y = Linear(0.0, float(most), bottom, top)
    states = [state for state in STATES if any(totals[state])]
    _strip(canvas, "replicas", [(f"state-{state}", state) for state in states], top - 10)
    for tick in y.ticks(3):
        if tick == round(tick):
            canvas.line((LEFT, y(tick)), (canvas.width - RIGHT, y(tick)))
            canvas.text((LEFT - 8, y(tick) + 4), f"{tick:g}", anchor="end")
    base = [0] * len(at_s)
    for state in STATES:
        above = [low + count for low, count in zip(base, totals[state], strict=True)]
        if any(totals[state]):
            edge = [*_steps(at_s, above, x, y), *reversed(_steps(at_s, base, x, y))]
            canvas.area(edge, f"state-{state}", 0.85)
        base = above
    return bottom


def _strip(canvas: Canvas, title: str, entries: Sequence[tuple[str, str]], y: float) -> None:
    canvas.text((LEFT, y), title, colour="ink", bold=True)
    canvas.legend((LEFT + text_width(title) + 18, y - 1), entries, canvas.width)


def _steps(at_s: Sequence[float], counts: Sequence[int], x: Linear, y: Linear) -> list[Point]:
    """A value holds until the next look."""
    found: list[Point] = []
    for k, count in enumerate(counts):
        until = at_s[k + 1] if k + 1 < len(at_s) else x.high
        found += [(x(at_s[k]), y(count)), (x(until), y(count))]
    return found


def _tiers(canvas: Canvas, at_s: Sequence[float], models: dict[str, Any], x: Linear, top: float) -> float:
    y = top
    there = {tier for one in models.values() for tier in one["tier"] if tier}
    _strip(canvas, "tiers", [(f"tier-{tier}", TIER_WORDS[tier]) for tier in TIERS if tier in there], y - 10)
    for name, one in list(models.items())[:MODELS]:
        canvas.text((LEFT - 8, y + 10), _short(name), size=10, anchor="end")
        for tier, start, end in stretches(at_s, one["tier"], x.high):
            left, right = x(start), x(end)
            colour = f"tier-{tier}" if tier in TIERS else "line"
            canvas.box((left, y), right - left, TIER, colour, tip=f"{name}: {TIER_WORDS.get(tier, tier)}")
        y += TIER + 5
    if len(models) > MODELS:
        canvas.text((LEFT, y + 10), f"and {len(models) - MODELS} more models, in the replicas above", size=10)
        y += 16
    return y


def stretches(at_s: Sequence[float], tiers: Sequence[str | None], until_s: float) -> Iterator[tuple[str, float, float]]:
    """(tier, from, until) for each stretch of one tier."""
    begun = 0
    for k in range(1, len(tiers) + 1):
        if k == len(tiers) or tiers[k] != tiers[begun]:
            end = at_s[k] if k < len(tiers) else until_s
            if (tier := tiers[begun]) is not None:
                yield tier, at_s[begun], end
            begun = k


def _short(name: str, most: int = 10) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _about(shown: Sequence[Track], document: dict[str, Any]) -> str:
    said = [f"{track.name}: {len(track.seen)} answered, {len(track.failed)} failed" for track in shown]
    return "; ".join([*said, f"{document['duration_s']:.0f} s"])
