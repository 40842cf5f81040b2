"""Memory over time: for each GPU, its models as stacked shelves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.cli.simulation.drawing import INK, OTHERS, PALETTE, figure
from packers.types import ModelId

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.patches import Patch

    from packers.sim import MemoryPoint, SimResult
    from packers.types import GpuId

    Floats = npt.NDArray[np.float64]

GPUS_MAX = 16
STEPS = 300  # looked at in so many moments: a picture has no more room
GIB = 2**30
SCALES = (
    (86_400.0 * 2, 86_400.0, "days"),
    (7_200.0, 3_600.0, "hours"),
    (300.0, 60.0, "minutes"),
    (0.0, 1.0, "seconds"),
)


@dataclass(frozen=True, slots=True)
class Shelves:
    """``held``: GPU -> model -> bytes at each of ``at_s``."""

    at_s: npt.NDArray[np.float64]
    held: Mapping[GpuId, Mapping[ModelId, npt.NDArray[np.float64]]]


def shelves(result: SimResult) -> Shelves:
    import numpy as np

    at_s = np.linspace(0.0, max(result.end_s, 1e-9), STEPS)
    held: dict[GpuId, dict[ModelId, npt.NDArray[np.float64]]] = {row.gpu: {} for row in result.gpus}
    for (gpu, model), points in _by_place(result.memory).items():
        times = np.array([point[0] for point in points])
        sums = np.cumsum([point[1] for point in points])
        place = np.searchsorted(times, at_s, side="right") - 1
        here = np.where(place >= 0, sums[np.maximum(place, 0)], 0.0)
        held.setdefault(gpu, {})[model] = here
    return Shelves(at_s, held)


def picture(result: SimResult, title: str) -> str | None:
    """None when nothing was kept of it, or nothing ever held memory."""
    import numpy as np

    found = shelves(result)
    gpus = [row for row in result.gpus if found.held.get(row.gpu)] or list(result.gpus)
    gpus = gpus[:GPUS_MAX]
    if not result.memory or not gpus:
        return None
    colors = _colors(found)
    unit_s, unit = next((unit_s, unit) for least, unit_s, unit in SCALES if result.end_s >= least)
    with figure(0.8 + 0.95 * len(gpus), title, (len(gpus), 1), share="x") as canvas:
        for ax, row in zip(canvas.axes, gpus, strict=True):
            here = found.held[row.gpu]
            layers: dict[str, npt.NDArray[np.float64]] = defaultdict(lambda: np.zeros(STEPS))
            for model, held in here.items():
                layers[model if model in colors else "others"] += held / GIB
            bottom = np.zeros(STEPS)
            for name in (*colors, "others"):
                if name in layers:
                    bottom = _shelf(ax, found.at_s / unit_s, bottom, layers[name], colors.get(ModelId(name), OTHERS))
            ax.axhline(row.memory_bytes / GIB, color=INK, linewidth=0.8, alpha=0.5)
            ax.set_ylim(0, row.memory_bytes / GIB * 1.04)
            ax.set_ylabel(row.gpu.replace("/", "/\n"), rotation=0, ha="right", va="center", fontsize=8)
            ax.locator_params(axis="y", nbins=3)
            ax.margins(x=0)
        canvas.axes[-1].set_xlabel(f"{unit} since the beginning; GiB per GPU")
        handles = _handles(colors, _others(found, colors))
        canvas.figure.legend(handles=handles, loc="outside upper center", ncols=4, fontsize=8)
    return canvas.svg


def _shelf(ax: Axes, x: Floats, bottom: Floats, height: Floats, color: str) -> Floats:
    """Draws one layer on top of ``bottom``; where it ends. Moments in which nothing changes are left out."""
    import numpy as np

    top = bottom + height
    changes = (np.diff(bottom, prepend=-1.0) != 0) | (np.diff(top, prepend=-1.0) != 0)
    changes[-1] = True
    ax.fill_between(
        x[changes],
        bottom[changes],
        top[changes],
        where=_near(height > 0)[changes].tolist(),
        step="post",
        color=color,
        linewidth=0,
    )
    return top


def _near(there: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Also the moment after: a step ends where the next one begins."""
    found = there.copy()
    found[1:] |= there[:-1]
    return found


def _by_place(memory: Sequence[MemoryPoint]) -> dict[tuple[GpuId, ModelId], list[tuple[float, int]]]:
    """Changes of what a model holds on a GPU, all its replicas together."""
    last: dict[tuple[GpuId, str], int] = defaultdict(int)
    changes: dict[tuple[GpuId, ModelId], list[tuple[float, int]]] = defaultdict(list)
    for point in memory:
        where = (point.gpu, point.replica)
        change = point.gpu_bytes - last[where]
        last[where] = point.gpu_bytes
        if change:
            changes[point.gpu, point.model].append((point.at_s, change))
    return changes


def _colors(found: Shelves) -> dict[ModelId, str]:
    """The models that hold most over time have colours of their own."""
    total: dict[ModelId, float] = defaultdict(float)
    for here in found.held.values():
        for model, held in here.items():
            total[model] += float(held.sum())
    ranked = sorted(total, key=lambda model: (-total[model], model))
    return dict(zip(ranked, PALETTE, strict=False))


def _others(found: Shelves, colors: Mapping[ModelId, str]) -> bool:
    return any(model not in colors for here in found.held.values() for model in here)


def _handles(colors: Mapping[ModelId, str], others: bool) -> list[Patch]:
    from matplotlib.patches import Patch

    named = [*colors.items(), *([("others", OTHERS)] if others else [])]
    return [Patch(color=color, label=name) for name, color in named]
