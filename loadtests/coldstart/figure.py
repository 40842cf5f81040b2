"""One measured figure: its passes, their median, what it is held against. Pure."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any, Literal

DIGITS = 4


@dataclass(slots=True)
class Figure:
    """Values of each pass, in order, in ``unit``. ``wanted``: on which side of its goal a good median lies."""

    name: str
    model: str
    goal: float | None = None
    unit: str = "s"
    wanted: Literal["at most", "at least"] = "at most"
    values: list[float] = field(default_factory=list)
    problem: str | None = None  # why passes are missing
    beside: dict[str, Any] = field(default_factory=dict)  # what else the passes saw, for the JSON

    @property
    def median(self) -> float:
        """Raises statistics.StatisticsError when nothing was measured."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median is within the goal; None without a goal or without a pass."""
        if self.goal is None or not self.values:
            return None
        return self.median <= self.goal if self.wanted == "at most" else self.median >= self.goal

    def document(self) -> dict[str, Any]:
        measured = bool(self.values)
        return {
            "name": self.name,
            "model": self.model,
            "unit": self.unit,
            "median": round(self.median, DIGITS) if measured else None,
            "min": round(min(self.values), DIGITS) if measured else None,
            "max": round(max(self.values), DIGITS) if measured else None,
            "passes": [round(value, DIGITS) for value in self.values],
            "goal": None if self.goal is None else round(self.goal, DIGITS),
            "wanted": self.wanted,
            "met": self.met,
            "problem": self.problem,
            **({"beside": self.beside} if self.beside else {}),
        }

    def line(self) -> str:
        title = f"{self.model}: {self.name}"
        if not self.values:
            return f"{title}: not measured ({self.problem})"
        text = f"{title}: median {self._shown(self.median)}" if len(self.values) > 1 else f"{title}: "
        if len(self.values) > 1:
            low, high = self._number(min(self.values)), self._number(max(self.values))
            text += f" ({low} to {high}, {len(self.values)} passes)"
        else:
            text += f"{self._shown(self.median)} (1 pass)"
        if self.goal is not None:
            text += f", goal {self.wanted} {self._shown(self.goal)}: {'met' if self.met else 'missed'}"
        return text + (f"; incomplete: {self.problem}" if self.problem else "")

    def _shown(self, value: float) -> str:
        return f"{self._number(value)} {self.unit}"

    def _number(self, value: float) -> str:
        return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def ratio_line(ours: Figure, stock: Figure) -> str | None:
    """How many times longer the stock server took; None when one of them was not measured."""
    if not (ours.values and stock.values):
        return None
    return f"{ours.model}: a stock vLLM server takes {stock.median / ours.median:.0f} times as long as a stopped model"
