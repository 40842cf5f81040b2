"""One measured figure: its passes, their median, what it is held against. Pure."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Figure:
    """Seconds of each pass, in order. ``uncounted_s``: a pass before them that is shown but not part of the median."""

    name: str
    model: str
    goal_s: float | None = None
    seconds: list[float] = field(default_factory=list)
    uncounted_s: float | None = None
    problem: str | None = None  # why passes are missing

    @property
    def median_s(self) -> float:
        """Raises statistics.StatisticsError when nothing was measured."""
        return statistics.median(self.seconds)

    @property
    def met(self) -> bool | None:
        """Whether the median is within the goal; None without a goal or without a pass."""
        return None if self.goal_s is None or not self.seconds else self.median_s <= self.goal_s

    def document(self) -> dict[str, Any]:
        measured = bool(self.seconds)
        return {
            "name": self.name,
            "model": self.model,
            "unit": "s",
            "median": round(self.median_s, 4) if measured else None,
            "min": round(min(self.seconds), 4) if measured else None,
            "max": round(max(self.seconds), 4) if measured else None,
            "passes": [round(seconds, 4) for seconds in self.seconds],
            "uncounted_first_pass": None if self.uncounted_s is None else round(self.uncounted_s, 4),
            "goal": None if self.goal_s is None else round(self.goal_s, 4),
            "met": self.met,
            "problem": self.problem,
        }

    def line(self) -> str:
        title = f"{self.model}: {self.name}"
        if not self.seconds:
            return f"{title}: not measured ({self.problem})"
        spread = f"{min(self.seconds):.3f} to {max(self.seconds):.3f}, " if len(self.seconds) > 1 else ""
        passes = f"{len(self.seconds)} pass" + ("es" if len(self.seconds) > 1 else "")
        text = f"{title}: median {self.median_s:.3f} s ({spread}{passes})"
        if self.goal_s is not None:
            text += f", goal {self.goal_s:.3f} s: {'met' if self.met else 'missed'}"
        return text + (f"; incomplete: {self.problem}" if self.problem else "")


def ratio_line(ours: Figure, stock: Figure) -> str | None:
    """How many times longer the stock server took; None when one of them was not measured."""
    if not (ours.seconds and stock.seconds):
        return None
    return (
        f"{ours.model}: a stock vLLM server takes {stock.median_s / ours.median_s:.0f} times as long as a stopped model"
    )
