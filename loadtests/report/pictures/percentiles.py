"""The whole distribution: latency at each percentile, with its 95% band. The tail has as much room as the middle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtests.report import estimate
from loadtests.report.blocks import Floats
from loadtests.report.pictures.axes import Linear, Log, around, ms
from loadtests.report.pictures.canvas import NARROW, WIDE, Canvas
from loadtests.report.sides import Side, values

DRAWS = 500
POINTS = 70
TICKS = (0.0, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999)
LEFT, RIGHT, BOTTOM = 58.0, 16.0, 42.0
_APART = 34.0  # ticks whose names do not touch


@dataclass(frozen=True, slots=True)
class Curve:
    """``at``: shares, ascending; milliseconds at each; ``passes``: the curve of each pass where there are several."""

    name: str
    colour: str
    at: Floats
    value: Floats
    low: Floats
    high: Floats
    passes: tuple[Floats, ...] = ()


def curve(side: Side, metric: str, colour: str, length: int, seed: int = 0) -> Curve | None:
    """None where nothing was measured. The band is pointwise."""
    taken = [values(one, metric) for one in side.passes]
    fewest = min(len(one.sorted) for one in taken)
    if not fewest:
        return None
    # As far as each pass has ten values beyond: the last few points of a curve say nothing.
    last = max(0.5, 1 - 10 / fewest)
    shares = 1 - np.logspace(0, math.log10(1 - last), POINTS) * (1 - 1e-9)
    names = [f"p{share * 100:.8f}" for share in shares]
    rng = np.random.default_rng(seed)
    found = [estimate.drawn(one, names, length, rng, DRAWS) for one in taken]
    if len(found) == 1:
        low, high = np.nanquantile(found[0].drawn, [estimate.LEVEL / 2, 1 - estimate.LEVEL / 2], axis=0)
        return Curve(side.name, colour, shares, found[0].figures, low, high)
    figures = [estimate.over_passes(found, k) for k in range(len(names))]
    value, low, high = (np.array([getattr(one, end) for one in figures]) for end in ("value", "low", "high"))
    return Curve(side.name, colour, shares, value, low, high, tuple(one.figures for one in found))


def draw(curves: Sequence[Curve], title: str, width: float) -> Canvas:
    height = 320.0 if width > NARROW else 300.0
    canvas = Canvas(width, height, title, _about(curves))
    top = (
        canvas.legend((LEFT, 12), [(one.colour, one.name) for one in curves], width - RIGHT) + 14
        if len(curves) > 1
        else 14
    )
    lowest = min(float(np.min(one.value)) for one in curves)
    highest = max(float(np.max(np.concatenate([one.value, *one.passes]))) for one in curves)
    y = Log(*around(lowest, highest), height - BOTTOM, top)
    far = max(float(one.at[-1]) for one in curves)
    x = Linear(0.0, -math.log10(1 - far), LEFT, width - RIGHT)
    _grid(canvas, x, y, far, top, height - BOTTOM)
    for one in curves:
        across = [x(-math.log10(1 - share)) for share in one.at]
        edge = [*zip(across, map(y, one.high), strict=True), *reversed(list(zip(across, map(y, one.low), strict=True)))]
        canvas.area(edge, one.colour, 0.16)
        for each in one.passes:
            canvas.path(list(zip(across, map(y, each), strict=True)), one.colour, width=0.9, opacity=0.4)
    for one in curves:
        across = [x(-math.log10(1 - share)) for share in one.at]
        canvas.path(list(zip(across, map(y, one.value), strict=True)), one.colour, width=2.4)
    return canvas


def both(curves: Sequence[Curve], title: str) -> tuple[Canvas, Canvas]:
    return draw(curves, title, WIDE), draw(curves, title, NARROW)


def _grid(canvas: Canvas, x: Linear, y: Log, far: float, top: float, bottom: float) -> None:
    for tick in y.ticks(8):
        canvas.line((LEFT, y(tick)), (canvas.width - RIGHT, y(tick)))
        canvas.text((LEFT - 8, y(tick) + 4), ms(tick), anchor="end")
    last: float | None = None
    for share in TICKS:
        at = x(-math.log10(1 - share))
        if share > far + 1e-9:
            continue
        canvas.line((at, top), (at, bottom))
        if last is not None and at - last < _APART:
            continue
        last = at
        canvas.text(
            (at, bottom + 17), "fastest" if share == 0 else f"p{share * 100:g}", anchor="middle" if share else "start"
        )
    canvas.text((canvas.width - RIGHT, bottom + 34), "percentile of the requests", anchor="end")


def _about(curves: Sequence[Curve]) -> str:
    said = []
    for one in curves:
        middle = int(np.searchsorted(one.at, 0.5))
        said.append(f"{one.name}: median {one.value[min(middle, len(one.at) - 1)]:.3g} ms, at p{one.at[-1] * 100:.3g} "
                    f"{one.value[-1]:.3g} ms")  # fmt: skip
    return "; ".join(said)
