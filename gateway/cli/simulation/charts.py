"""The pictures that compare runs: delayed requests, waits, GPU-hours and money, and what costs what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.cli.simulation.drawing import INK, PALETTE, figure
from gateway.cli.simulation.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHORTEST_WAIT_S = 0.001  # what is drawn at the left edge of a logarithmic axis
PERCENTILES = (("p50", "p50_s", "o"), ("p90", "p90_s", "s"), ("p95", "p95_s", "D"), ("p99", "p99_s", "^"))


def delayed(runs: Sequence[Run]) -> str:
    shares = [100 * run.result.delayed_share for run in runs]
    with figure(_height(runs), "Delayed requests (simulated)") as canvas:
        _bars(canvas.ax, runs, shares, PALETTE[0], [f"{share:.2f} %" for share in shares])
        canvas.ax.set_xlabel("% of requests that arrived while no replica of their model was ready")
    return canvas.svg


def waits(runs: Sequence[Run]) -> str:
    with figure(_height(runs) + 0.3, "Waits (simulated)") as canvas:
        ax, places = canvas.ax, range(len(runs))
        longest = [max(SHORTEST_WAIT_S, run.result.waits.max_s) for run in runs]
        ax.hlines(places, SHORTEST_WAIT_S, longest, color=INK, alpha=0.25, linewidth=1)
        for number, (name, field, marker) in enumerate(PERCENTILES):
            values = [max(SHORTEST_WAIT_S, getattr(run.result.waits, field)) for run in runs]
            ax.plot(values, places, marker, color=PALETTE[number], label=name, markersize=7, linestyle="none")
        ax.plot(longest, places, "|", color=INK, label="longest", markersize=12, linestyle="none")
        ax.set_xscale("log")
        _name_rows(ax, runs)
        ax.set_xlabel("seconds until a replica took the request (logarithmic)")
        canvas.figure.legend(loc="outside upper right", ncols=len(PERCENTILES) + 1)
    return canvas.svg


def hours(runs: Sequence[Run]) -> str:
    with_money = any(run.result.money for run in runs)
    with figure(_height(runs) + 0.3, "GPU-hours and money (simulated)", (1, 1 + with_money), share="y") as canvas:
        ax = canvas.ax
        provisioned = [run.result.hours.provisioned for run in runs]
        occupied = [run.result.hours.occupied for run in runs]
        ax.barh(range(len(runs)), provisioned, color=INK, alpha=0.12, height=0.6, label="there")
        _bars(ax, runs, occupied, PALETTE[2], [f"{value:.1f}" for value in occupied], label="with something awake")
        ax.set_xlabel("GPU-hours")
        canvas.figure.legend(loc="outside upper right", ncols=2)
        if with_money:
            money = [run.result.money for run in runs]
            _bars(canvas.axes[1], runs, money, PALETTE[1], [f"{value:.2f}" for value in money])
            canvas.axes[1].set_xlabel("money, in the unit of the prices")
    return canvas.svg


def pareto(runs: Sequence[Run]) -> str:
    """Delay against GPU-hours; the line joins the runs that no other one beats in both."""
    with figure(4.2, "Delay against GPU-hours (simulated)") as canvas:
        ax = canvas.ax
        points = [(run.result.hours.occupied, 100 * run.result.delayed_share) for run in runs]
        best = sorted(points[place] for place in frontier(points))
        ax.step(*zip(*best, strict=True), where="post", color=PALETTE[0], linewidth=1.5, alpha=0.6)
        for number, (run, (x, y)) in enumerate(zip(runs, points, strict=True)):
            on_it = (x, y) in best
            ax.plot([x], [y], "o", color=PALETTE[0] if on_it else PALETTE[1], markersize=8, alpha=0.9)
            ax.annotate(
                run.variant.label, (x, y), xytext=(7, -12 if number % 2 else 5), textcoords="offset points", fontsize=9
            )
        ax.set_xlabel("GPU-hours with something awake")
        ax.set_ylabel("% of requests delayed")
        ax.margins(0.12)
    return canvas.svg


def frontier(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the points that no other one beats: none is as good in both and better in one."""
    found = []
    for place, (x, y) in enumerate(points):
        beaten = any(a <= x and b <= y and (a, b) != (x, y) for a, b in points)
        if not beaten:
            found.append(place)
    return found


def _bars(
    ax: Axes, runs: Sequence[Run], values: Sequence[float], color: str, texts: Sequence[str], label: str | None = None
) -> None:
    drawn = ax.barh(range(len(runs)), values, color=color, height=0.6, label=label)
    ax.bar_label(drawn, labels=list(texts), padding=4, fontsize=9)
    ax.margins(x=0.12)
    ax.grid(axis="y", visible=False)
    _name_rows(ax, runs)


def _name_rows(ax: Axes, runs: Sequence[Run]) -> None:
    ax.set_yticks(range(len(runs)), [run.variant.label for run in runs])
    ax.set_ylim(len(runs) - 0.5, -0.5)  # the first one on top


def _height(runs: Sequence[Run]) -> float:
    return 0.9 + 0.36 * len(runs)
