"""The comparison as a table: one row per subject, medians of the passes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from loadtests.gateway.comparison import DIRECT
from loadtests.gateway.goals import Passes, added, median_of, ratios
from loadtests.gateway.passes import Measure

Cell = Callable[[Passes, str], float | None]


def _plain(measure: Measure) -> Cell:
    return lambda passes, name: median_of(passes, name, measure)


def _added(measure: Measure) -> Cell:
    return lambda passes, name: _median(added(passes, name, measure)) if name != DIRECT else None


def _of_nginx(measure: Measure) -> Cell:
    return lambda passes, name: _median(ratios(passes, name, "nginx", measure))


def _median(found: Sequence[float]) -> float | None:
    return median(found) if found else None


COLUMNS: tuple[tuple[str, Cell], ...] = (
    ("rps c1", _plain(Measure.RPS_1)),
    ("rps c16", _plain(Measure.RPS_16)),
    ("rps c64", _plain(Measure.RPS_64)),
    ("x nginx", _of_nginx(Measure.RPS_16)),
    ("varied c16", _plain(Measure.VARIED_16)),
    ("x nginx", _of_nginx(Measure.VARIED_16)),
    ("cpu us/req", _plain(Measure.CPU_US)),
    ("+p50 us", _added(Measure.P50_1)),
    ("+p99 us", _added(Measure.P99_1)),
    ("+ttfb us", _added(Measure.FIRST_BYTE)),
    ("events/s", _plain(Measure.BURST_EVENTS)),
    ("paced/s", _plain(Measure.PACED_EVENTS)),
    ("gone ms", _plain(Measure.LEAVE_MS)),
)


def table(passes: Passes) -> str:
    """Fastest first. ``+``: over the same without a gateway; ``c``: connections; ``gone``: until the engine knows."""
    order = sorted(passes, key=lambda name: -(median_of(passes, name, Measure.RPS_16) or 0.0))
    rows = [["", *(title for title, _ in COLUMNS)]]
    rows += [[name, *(_shown(cell(passes, name)) for _, cell in COLUMNS)] for name in order]
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) if index == 0 else text.rjust(width)
                  for index, (text, width) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    )  # fmt: skip


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
