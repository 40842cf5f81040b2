"""Each figure's change with its confidence interval, in percent of the first side's: one look says what changed."""

from __future__ import annotations

from collections.abc import Sequence

from loadtests.report import words
from loadtests.report.content import Line
from loadtests.report.pictures.axes import Linear
from loadtests.report.pictures.canvas import NARROW, WIDE, Canvas

ROW, TOP, BOTTOM, LABEL = 27.0, 12.0, 40.0, 108.0
MOST = 1.5  # an interval beyond this share is cut off at the edge
FEWEST = 0.02


def shown(lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if line.share is not None and line.share.known]


def draw(lines: Sequence[Line], width: float) -> Canvas:
    rows = shown(lines)
    said_room = 150.0 if width > NARROW else 0.0
    canvas = Canvas(width, TOP + len(rows) * ROW * (1 if said_room else 1.5) + BOTTOM, "What changed", _about(rows))
    each = ROW * (1 if said_room else 1.5)
    ends = [abs(end) for line in rows if line.share for end in _ends(line)]
    far = min(MOST, max([FEWEST, *ends]) * 1.08)
    left = LABEL if said_room else 96.0
    x = Linear(-far, far, left, width - said_room - 16)
    bottom = TOP + each * len(rows)
    for tick in x.ticks(6 if said_room else 3):
        canvas.line((x(tick), TOP), (x(tick), bottom), "soft" if abs(tick) < 1e-12 else "line")
        canvas.text((x(tick), bottom + 16), words.percent(round(tick, 9), True) if tick else "0", anchor="middle")
    canvas.text((x(-far), bottom + 33), "◂ less")
    canvas.text((x(far), bottom + 33), "more ▸", anchor="end")
    for place, line in enumerate(rows):
        _row(canvas, line, x, TOP + place * each, each, bool(said_room))
    return canvas


def _row(canvas: Canvas, line: Line, x: Linear, top: float, each: float, beside: bool) -> None:
    share = line.share
    assert share is not None  # of those that are shown
    assert share.value is not None
    y = top + ROW / 2
    colour = "soft" if not line.significant else "bad" if share.value > 0 else "good"
    low, high = _ends(line)
    canvas.text((0, y + 4), f"{words.METRIC_WORDS[line.metric]} {line.name}", colour="ink")
    canvas.line((x(low), y), (x(high), y), colour, 2.4)
    for end, known in ((low, share.low), (high, share.high)):
        if known is not None and abs(end) < x.high:
            canvas.line((x(end), y - 4), (x(end), y + 4), colour, 2.0)
    canvas.dots([(x(share.value), y)], colour, radius=4.2)
    said = words.signed(line.change, line.metric) if line.change else ""
    where = (x.at_high + 16, y + 4) if beside else (x.at_low, y + 18)
    canvas.text(where, f"{said} ({words.percent(share.value, True)})", colour="ink" if line.significant else "soft",
                bold=line.significant, size=11 if beside else 10)  # fmt: skip


def _ends(line: Line) -> tuple[float, float]:
    """To the edge where it has none."""
    assert line.share is not None
    low, high = line.share.low, line.share.high
    return (-MOST if low is None else low), (MOST if high is None else high)


def both(lines: Sequence[Line]) -> tuple[Canvas, Canvas]:
    return draw(lines, WIDE), draw(lines, NARROW)


def _about(rows: Sequence[Line]) -> str:
    return "; ".join(f"{words.METRIC_WORDS[line.metric]} {line.name}: {words.finding(line)}" for line in rows)
