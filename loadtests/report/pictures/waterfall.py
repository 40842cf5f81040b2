"""Where the time to the first token goes: part after part, each beginning where the one before ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loadtests.report import words
from loadtests.report.content import Waterfall
from loadtests.report.pictures.axes import Linear, ms
from loadtests.report.pictures.canvas import NARROW, WIDE, Canvas, Point
from loadtests.report.pictures.letters import MEDIUM, SMALL, text_width

ROW, BAR, GAP = 24.0, 14.0, 34.0
ASIDE = 6.0  # between words and bars
HEAD, FOOT = 46.0, 24.0
DIRECT, THROUGH = "engine alone", "with Roundhouse"
NOTHING_MS = 0.0005  # what would be said to be 0.000 ms
MOST_COLUMNS = 3


@dataclass(frozen=True, slots=True)
class Panel:
    """Pixels: where its labels begin, its bars' scale, and what has to hold all values."""

    left: float
    right: float
    scale: Linear


def draw(falls: Sequence[Waterfall], width: float, first: str = "TTFT") -> Canvas:
    """Panels side by side where there is room for them, else one below the other."""
    columns = 1 if width <= NARROW else len(falls) if len(falls) <= MOST_COLUMNS else 2
    panel = (width - GAP * (columns - 1)) / columns
    heights = [_height(fall) for fall in falls]
    lines = [heights[at : at + columns] for at in range(0, len(heights), columns)]
    canvas = Canvas(width, sum(max(line) for line in lines) + 4, f"Where the {first} goes", _about(falls))
    # What a suite tells apart is to be seen side by side; of a median and a tail, each has its own scale.
    alike = max(map(_far, falls)) if len(falls) > 2 else None
    margins = _margins(falls)
    y = 0.0
    for number, line in enumerate(lines):
        for column, fall in enumerate(falls[number * columns : (number + 1) * columns]):
            _panel(canvas, fall, (column * (panel + GAP), y), panel, margins, alike or _far(fall))
        y += max(line)
    return canvas


def both(falls: Sequence[Waterfall], first: str = "TTFT") -> tuple[Canvas, Canvas]:
    return draw(falls, WIDE, first), draw(falls, NARROW, first)


def _rows(fall: Waterfall) -> list[str]:
    return [name for name in fall.parts_ms if name != "late" or fall.parts_ms["late"] >= 0.005]


def _height(fall: Waterfall) -> float:
    return HEAD + ROW * _lines(fall) + FOOT


def _lines(fall: Waterfall) -> int:
    """Of a panel: the engine alone, and all parts in one bar beside it, come first."""
    return len(_rows(fall)) + 2 * (fall.direct_ms is not None)


def _about(falls: Sequence[Waterfall]) -> str:
    said = []
    for fall in falls:
        parts = ", ".join(f"{words.PART_WORDS[name]} {words.with_unit(value)}" for name, value in fall.parts_ms.items())
        said.append(f"{fall.title}: {parts}")
    return "; ".join(said)


def _far(fall: Waterfall) -> float:
    return max(sum(fall.parts_ms.values()), fall.direct_ms or 0.0, 1e-6)


def _margins(falls: Sequence[Waterfall]) -> tuple[float, float]:
    """Room for the widest label and for the widest value: the same in all panels, whose scales are to be compared."""
    labels = [words.PART_WORDS[name] for fall in falls for name in _rows(fall)]
    if any(fall.direct_ms is not None for fall in falls):
        labels += [DIRECT, THROUGH]
    values = [text_width(said, SMALL, bold=True) for fall in falls for said in _values(fall)]
    return max(map(text_width, labels), default=0.0) + ASIDE, max(values, default=0.0) + 2 * ASIDE


def _values(fall: Waterfall) -> Iterator[str]:
    yield from (words.with_unit(fall.parts_ms[name]) for name in _rows(fall))
    if fall.direct_ms is not None:
        yield words.with_unit(fall.direct_ms)
        yield _added(fall, fall.direct_ms)


def _added(fall: Waterfall, direct_ms: float) -> str:
    added = sum(fall.parts_ms.values()) - direct_ms
    return f"{'+' if added >= 0 else ''}{words.with_unit(added)}"


def _panel(canvas: Canvas, fall: Waterfall, at: Point, width: float, margins: tuple[float, float], far: float) -> None:
    x, y = at
    rows = _rows(fall)
    total = sum(fall.parts_ms.values())
    left, right = x + margins[0], x + width - margins[1]
    scale = Linear(0.0, far, left, right)
    panel = Panel(x, x + width, scale)
    canvas.text((x, y + 14), fall.title, colour="ink", size=MEDIUM, bold=True)
    many = f"{fall.requests:,} request{'s' if fall.requests != 1 else ''}"
    canvas.text((x, y + 31), f"{words.with_unit(total)} mean of {many}")
    top = y + HEAD
    bottom = top + ROW * _lines(fall)
    for tick in scale.ticks(4 if right - left > 180 else 2):
        canvas.line((scale(tick), top - 4), (scale(tick), bottom))
        canvas.text((scale(tick), bottom + 14), ms(round(tick, 6)), size=10, anchor="middle")
    line, begun = top, 0.0
    if fall.direct_ms is not None:
        _bar(canvas, DIRECT, "direct", (0.0, fall.direct_ms), panel, line)
        _stacked(canvas, fall, panel, line + ROW)
        line += 2 * ROW
        canvas.line((x, line - 1), (x + width, line - 1))
    for name in rows:
        value = fall.parts_ms[name]
        if line > top and name != rows[0]:
            across = scale(begun)
            canvas.line((across, line - (ROW - BAR) / 2), (across, line + (ROW - BAR) / 2), "soft", 0.8)
        _bar(canvas, words.PART_WORDS[name], name, (begun, value), panel, line)
        begun += value
        line += ROW


def _stacked(canvas: Canvas, fall: Waterfall, panel: Panel, y: float) -> None:
    """All parts in one bar: its length beside the engine's own is the price."""
    middle, begun, scale = y + ROW / 2, 0.0, panel.scale
    canvas.text((panel.left, middle + 4), THROUGH, colour="ink")
    for name, value in fall.parts_ms.items():
        if value > 0:
            left, right = scale(begun), scale(begun + value)
            canvas.box((left, middle - BAR / 2), right - left, BAR, name, tip=words.PART_WORDS[name])
        begun += value
    assert fall.direct_ms is not None  # of those that have this row
    said = _added(fall, fall.direct_ms)
    canvas.text((scale(max(begun, 0.0)) + ASIDE, middle + 4), said, colour="ink", bold=True, halo=True)


def _bar(canvas: Canvas, label: str, colour: str, part: tuple[float, float], panel: Panel, y: float) -> None:
    (begun, value), scale = part, panel.scale
    start, end = sorted((scale(begun), scale(begun + value)))
    middle = y + ROW / 2
    nothing = abs(value) < NOTHING_MS
    ink = "soft" if nothing else "ink"
    canvas.text((panel.left, middle + 4), label, colour=ink)
    wide = 0.0 if nothing else max(end - start, 1.5)  # what is there is seen
    if wide:
        canvas.box((start, middle - BAR / 2), wide, BAR, colour, round=2, tip=f"{label}: {words.with_unit(value)}")
    said = words.with_unit(value)
    if end - start > text_width(said, SMALL, bold=True) + 2 * ASIDE:
        canvas.text((end - 6, middle + 4), said, colour="on-bar", size=SMALL, anchor="end", bold=True)
    elif start + wide + 6 + text_width(said) > panel.right and start - 6 - text_width(said) > scale.at_low:
        canvas.text((start - 6, middle + 4), said, colour=ink, anchor="end", halo=True)
    else:
        canvas.text((start + wide + 6, middle + 4), said, colour=ink, halo=True)
