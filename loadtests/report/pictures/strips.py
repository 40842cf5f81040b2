"""Strips under a timeline, on its axis of time: arrivals and answers, replicas by state, tiers of the models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loadtests.report.pictures.axes import Linear
from loadtests.report.pictures.canvas import Canvas, Point
from loadtests.report.pictures.letters import cut, text_width
from loadtests.report.pictures.tracks import Rates, stretches

LEFT, RIGHT = 78.0, 14.0
RATE, REPLICAS, TIER, TIER_GAP = 64.0, 66.0, 13.0, 5.0
MODELS = 8
STATES = ("ready", "starting", "draining", "asleep")
TIERS = ("gpu", "host", "page_cache", "disk", "remote")
TIER_WORDS = {"gpu": "on a GPU", "host": "host memory", "page_cache": "page cache", "disk": "disk", "remote": "remote"}


def heading(canvas: Canvas, title: str, entries: Sequence[tuple[str, str]], y: float) -> None:
    """In one line, whatever there is room for: a second one would lie in the strip."""
    canvas.text((LEFT, y), title, colour="ink", bold=True)
    x = LEFT + text_width(title) + 20
    whole = sum(30 + text_width(said) for _, said in entries) <= canvas.width - x + 14
    # On a phone a word may have to be cut.
    room = (canvas.width - x) / max(1, len(entries)) - 24
    for colour, said in entries:
        shown = said if whole else cut(said, room)
        canvas.box((x, y - 9), 10, 10, colour, round=2.5)
        canvas.text((x + 14, y), shown)
        x += 24 + text_width(shown)


def arrivals(canvas: Canvas, rates: Rates, x: Linear, top: float) -> float:
    """Due as an area, answered as a line, failures from the ground up. The y below."""
    most = max([1.0, *rates.due, *rates.answered])
    bottom = top + RATE
    y = Linear(0.0, most * 1.04, bottom, top)
    entries = [("due", "due"), ("answered", "answered")] + [("bad", "failed")] * any(rates.failed)
    heading(canvas, "requests a second", entries, top - 10)
    _ticks(canvas, y, 2)
    at_s = [k * rates.step_s for k in range(len(rates.due))]
    ground = [(x.at_high, bottom), (x.at_low, bottom)]
    canvas.area([*steps(at_s, rates.due, x, y), *ground], "due", 0.55)
    if any(rates.failed):
        canvas.area([*steps(at_s, rates.failed, x, y), *ground], "bad", 0.9)
    canvas.path(steps(at_s, rates.answered, x, y), "answered", width=1.8)
    return bottom


def replicas(canvas: Canvas, at_s: Sequence[float], models: dict[str, Any], x: Linear, top: float) -> float:
    totals = {state: [sum(one[state][k] or 0 for one in models.values()) for k in range(len(at_s))] for state in STATES}
    most = max(1, *(sum(totals[state][k] for state in STATES) for k in range(len(at_s))))
    bottom = top + REPLICAS
    y = Linear(0.0, float(most), bottom, top)
    states = [state for state in STATES if any(totals[state])]
    heading(canvas, "replicas", [(f"state-{state}", state) for state in states], top - 10)
    _ticks(canvas, y, 3)
    base: list[float] = [0] * len(at_s)
    for state in STATES:
        above = [low + count for low, count in zip(base, totals[state], strict=True)]
        if any(totals[state]):
            edge = [*steps(at_s, above, x, y), *reversed(steps(at_s, base, x, y))]
            canvas.area(edge, f"state-{state}", 0.85)
        base = above
    return bottom


def _ticks(canvas: Canvas, y: Linear, most: int) -> None:
    for tick in y.ticks(most):
        if tick == round(tick):
            canvas.line((LEFT, y(tick)), (canvas.width - RIGHT, y(tick)))
            canvas.text((LEFT - 8, y(tick) + 4), f"{tick:g}", anchor="end")


def steps(at_s: Sequence[float], counts: Sequence[float], x: Linear, y: Linear) -> list[Point]:
    """A value holds until the next look."""
    found: list[Point] = []
    for k, count in enumerate(counts):
        until = at_s[k + 1] if k + 1 < len(at_s) else x.high
        found += [(x(at_s[k]), y(count)), (x(until), y(count))]
    return found


def tiers(canvas: Canvas, at_s: Sequence[float], models: dict[str, Any], x: Linear, top: float) -> float:
    y = top
    there = {tier for one in models.values() for tier in one["tier"] if tier}
    heading(canvas, "tiers", [(f"tier-{tier}", TIER_WORDS[tier]) for tier in TIERS if tier in there], y - 10)
    for name, one in list(models.items())[:MODELS]:
        canvas.text((LEFT - 8, y + 10), short(name), size=10, anchor="end")
        for tier, start, end in stretches(at_s, one["tier"], x.high):
            left, right = x(start), x(end)
            colour = f"tier-{tier}" if tier in TIERS else "line"
            canvas.box((left, y), right - left, TIER, colour, tip=f"{name}: {TIER_WORDS.get(tier, tier)}")
        y += TIER + TIER_GAP
    if len(models) > MODELS:
        canvas.text((LEFT, y + 10), f"and {len(models) - MODELS} more models, in the replicas above", size=10)
        y += 16
    return y


def short(name: str, most: int = 10) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
