"""Model beside model: every request's latency, and which of them waited for a start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from loadtests.figures import percentile
from loadtests.outcome.rows import Row
from loadtests.report.pictures.axes import Log, around, ms
from loadtests.report.pictures.canvas import NARROW, WIDE, Canvas
from loadtests.report.pictures.strips import short
from loadtests.report.pictures.tracks import WAKE_MS, latency_ms, thinned
from loadtests.report.sides import Subject

ROW, TOP, FOOT = 22.0, 30.0, 26.0
MOST, FEWEST = 24, 3
NAMES, SAID = 150.0, 158.0


def worth_it(subject: Subject) -> bool:
    return len(subject.sides) == 1 and len({row.model for row in subject.shown.rows}) >= FEWEST


def draw(subject: Subject, width: float) -> Canvas:
    """Models that are asked most come first."""
    rows = [row for row in subject.shown.rows if not row.error and latency_ms(row) > 0]
    asked = [name for name, _ in Counter(row.model for row in subject.shown.rows).most_common()]
    wide = width > NARROW
    left, right = (NAMES, SAID) if wide else (82.0, 14.0)
    listed = asked[:MOST]
    top = TOP if wide else TOP + 17.0  # the legend takes two lines
    bottom = top + ROW * len(listed)
    more = 18.0 * (len(asked) > MOST)
    canvas = Canvas(width, bottom + FOOT + more, "Latency of each model", _about(rows, listed))
    canvas.legend((left, 12), [("through", "each request; bar: median"), ("wake", "waited for a start")], width)
    values = [latency_ms(row) for row in rows]
    if not values:
        canvas.text((left, top + 14), "nothing was answered", colour="bad")
        return canvas
    x = Log(*around(min(values), max(values)), left, width - right)
    for tick in x.ticks(8 if wide else 4):
        canvas.line((x(tick), top), (x(tick), bottom))
        canvas.text((x(tick), bottom + 16), ms(tick), anchor="middle")
    for place, name in enumerate(listed):
        mine = [row for row in rows if row.model == name]
        y = top + ROW * (place + 0.5)
        canvas.text((left - 8, y + 4), short(name, 22 if wide else 12), colour="ink", anchor="end")
        _model(canvas, mine, x, y)
        if wide:
            canvas.text((width - right + 12, y + 4), _said(mine))
    if more:
        canvas.text((left, canvas.height - 4), f"and {len(asked) - MOST} more models")
    return canvas


def both(subject: Subject) -> tuple[Canvas, Canvas]:
    return draw(subject, WIDE), draw(subject, NARROW)


def _waited(row: Row) -> bool:
    return row.timing_ms.get("wake", 0.0) >= WAKE_MS


def _model(canvas: Canvas, rows: Sequence[Row], x: Log, y: float) -> None:
    plain = [(row.begun_us / 1e6, latency_ms(row)) for row in rows if not _waited(row)]
    canvas.dots([(x(value), y) for _, value in thinned(plain, 200)], "through", radius=2.2, opacity=0.45)
    if rows:
        middle = x(percentile(sorted(latency_ms(row) for row in rows), 50))
        canvas.line((middle, y - 7), (middle, y + 7), "ink", 2.4)
    for row in rows:
        if _waited(row):
            canvas.diamond((x(latency_ms(row)), y), "wake", tip=f"waited {row.timing_ms['wake']:.0f} ms for a start")


def _said(rows: Sequence[Row]) -> str:
    waited = sum(map(_waited, rows))
    return f"{len(rows):,} answered" + (f", {waited} waited" if waited else "")


def _about(rows: Sequence[Row], names: Sequence[str]) -> str:
    return "; ".join(f"{name}: {_said([row for row in rows if row.model == name])}" for name in names)
