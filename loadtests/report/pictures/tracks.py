"""What of a run's requests is drawn over time: latencies by what tells them apart, waits for a start, arrivals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from loadtests.figures import percentile
from loadtests.outcome.rows import Row
from loadtests.report.pictures.axes import nice
from loadtests.report.pictures.canvas import Point
from loadtests.report.sides import COST, Subject

BINS = 60  # of the line of medians
FEWEST_IN_BIN, FEWEST_FOR_LINE = 3, 24
DOTS = 1500  # a side; of more, the slowest are kept and the others thinned
KIND_COLOURS = ("kind-1", "kind-2", "kind-3", "kind-4")
RATE_BINS = 90
WAKE_MS = 1.0  # less is no start


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

    @property
    def has_line(self) -> bool:
        return len(self.seen) >= FEWEST_FOR_LINE


@dataclass(frozen=True, slots=True)
class Bin:
    """Latencies of neighbours: ``at_s`` is the middle of their time."""

    at_s: float
    p50_ms: float
    p95_ms: float
    wide_s: float
    count: int


@dataclass(frozen=True, slots=True)
class Wake:
    """A start or wake that callers waited for: when the first of them was due, the longest TTFT, and what the model
    was on before."""

    model: str
    tier: str
    at_s: float
    ttft_ms: float
    waited: int


@dataclass(frozen=True, slots=True)
class Rates:
    """A second, in steps of ``step_s``: requests due, answers complete, and failures when their callers were told."""

    step_s: float
    due: list[float]
    answered: list[float]
    failed: list[float]


def colours(subject: Subject) -> list[str]:
    """Of each side."""
    if len(subject.sides) == 1:
        return ["through"]
    return ["direct" if subject.kind == COST else "first", "through"]


def tracks(subject: Subject) -> list[Track]:
    """Of a single run: one for each tag where its suite tells requests apart, else for each of a few models."""
    if len(subject.sides) == 1:
        rows = subject.shown.rows
        for read in (_tag, _model):
            names = sorted({read(row) for row in rows} - {""})
            if 1 < len(names) <= len(KIND_COLOURS):
                return _by(rows, names, read)
    return [_track(side.name, colour, side.rows) for side, colour in zip(subject.sides, colours(subject), strict=True)]


def _tag(row: Row) -> str:
    return row.tag


def _model(row: Row) -> str:
    return row.model


def _by(rows: Sequence[Row], names: Sequence[str], read: Callable[[Row], str]) -> list[Track]:
    found = [_track(name, "", [row for row in rows if read(row) == name]) for name in names]
    found.sort(key=lambda track: track.median_ms)
    return [replace(track, colour=colour) for track, colour in zip(found, KIND_COLOURS, strict=False)]


def _track(name: str, colour: str, rows: Sequence[Row]) -> Track:
    seen = [(row.begun_us / 1e6, latency) for row in rows if not row.error and (latency := latency_ms(row)) > 0]
    return Track(name, colour, sorted(seen), [row.begun_us / 1e6 for row in rows if row.error])


def latency_ms(row: Row) -> float:
    """To the first token; to the end of what is not streamed."""
    return (row.e2e_us if row.ttft_us is None else row.ttft_us) / 1e3


def thinned(seen: Sequence[Point], most: int = DOTS) -> list[Point]:
    """All of the slowest 5%, and evenly chosen others."""
    if len(seen) <= most:
        return list(seen)
    slow = percentile(sorted(latency for _, latency in seen), 95)
    tail = [point for point in seen if point[1] > slow][: most // 2]
    rest = [point for point in seen if point[1] <= slow]
    step = len(rest) / (most - len(tail))
    return tail + [rest[int(k * step)] for k in range(most - len(tail))]


def binned(seen: Sequence[Point], edges: Sequence[float], bins: int = BINS) -> list[list[Bin]]:
    """Of neighbours within a phase: as many bins as its time takes, each with a few requests at least. A new list after
    each of the ``edges`` (the phases' ends, and where the run begins), and after each gap: nothing is known of a time
    in which nobody asked."""
    whole_s = max(edges[-1] - edges[0], 1e-9)
    found: list[list[Bin]] = []
    for start, end in pairwise(edges):
        # What was due after the last phase's end is of that phase.
        inside = [one for one in seen if start <= one[0] and (one[0] < end or end == edges[-1])]
        count = max(1, min(round(bins * (end - start) / whole_s), len(inside) // 8))
        found += _stretches(inside, start, (end - start) / count, count)
    return found


def _stretches(seen: Sequence[Point], start_s: float, wide_s: float, count: int) -> list[list[Bin]]:
    grouped: dict[int, list[float]] = {}
    for at, latency in seen:
        grouped.setdefault(min(count - 1, math.floor((at - start_s) / max(wide_s, 1e-9))), []).append(latency)
    found: list[list[Bin]] = []
    last = -math.inf
    for place, inside in sorted(grouped.items()):
        if len(inside) < FEWEST_IN_BIN:
            continue
        if place - last > 1:
            found.append([])
        ordered = sorted(inside)
        middle_s = start_s + (place + 0.5) * wide_s
        found[-1].append(Bin(middle_s, percentile(ordered, 50), percentile(ordered, 95), wide_s, len(ordered)))
        last = place
    return found


def edges_of(document: dict[str, Any]) -> list[float]:
    """Seconds: where phases begin, and where the last one ends."""
    phases = document["phases"]
    return [*(phase["from_s"] for phase in phases), phases[-1]["until_s"]]


def rates(rows: Sequence[Row], until_s: float, passes: int = 1) -> Rates:
    """Means over the passes. Answers after ``until_s`` are not in it."""
    step_s = max(1.0, nice(until_s / RATE_BINS))
    count = max(1, math.ceil(until_s / step_s - 1e-9))
    columns: tuple[list[float], ...] = ([0.0] * count, [0.0] * count, [0.0] * count)
    one = 1 / (step_s * passes)
    for row in rows:
        _count(columns[0], row.begun_us / 1e6 / step_s, one)
        _count(columns[2 if row.error else 1], row.end_us / 1e6 / step_s, one)
    return Rates(step_s, *columns)


def _count(column: list[float], place: float, one: float) -> None:
    if 0 <= place < len(column):
        column[int(place)] += one


def wakes(rows: Sequence[Row], service: dict[str, Any]) -> list[Wake]:
    """Each start once, however many waited for it."""
    waiting = sorted((row for row in rows if not row.error and row.timing_ms.get("wake", 0.0) >= WAKE_MS), key=_begun)
    found: list[Wake] = []
    open_until: dict[str, tuple[int, int]] = {}
    for row in waiting:
        until_us = row.begun_us + round(row.timing_ms["wake"] * 1e3)
        place, end_us = open_until.get(row.model, (-1, -1))
        if place >= 0 and row.begun_us <= end_us:
            one = found[place]
            found[place] = replace(one, ttft_ms=max(one.ttft_ms, latency_ms(row)), waited=one.waited + 1)
            open_until[row.model] = place, max(end_us, until_us)
            continue
        open_until[row.model] = len(found), until_us
        at_s = row.begun_us / 1e6
        found.append(Wake(row.model, tier_at(service, row.model, at_s), at_s, latency_ms(row), 1))
    return found


def _begun(row: Row) -> int:
    return row.begun_us


def tier_at(service: dict[str, Any], model: str, at_s: float) -> str:
    """What the model was on at the last look before; empty where nobody knows."""
    tiers = (service.get("models") or {}).get(model, {}).get("tier") or []
    before = [tier for seen_s, tier in zip(service.get("at_s") or [], tiers, strict=False) if seen_s <= at_s and tier]
    return before[-1] if before else ""


def stretches(at_s: Sequence[float], tiers: Sequence[str | None], until_s: float) -> Iterator[tuple[str, float, float]]:
    """(tier, from, until) for each stretch of one tier."""
    begun = 0
    for k in range(1, len(tiers) + 1):
        if k == len(tiers) or tiers[k] != tiers[begun]:
            end = at_s[k] if k < len(tiers) else until_s
            if (tier := tiers[begun]) is not None:
                yield tier, at_s[begun], end
            begun = k
