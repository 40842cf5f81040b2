"""One line per goal and item on the screen, and all of them as JSON."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from loadtests.coldstart.machine import machine


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure. ``limit``: what the goal asks for (None: shown for comparison); ``others``: baselines.

    ``at_most``: the goal is to be at or below the limit; else at or above it.
    """

    goal: str
    item: str
    name: str
    value: float
    unit: str
    limit: float | None = None
    at_most: bool = True
    others: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        if self.limit is None:
            return None
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    def line(self) -> str:
        parts = [f"{self.goal} {self.item}: {self.name} {_number(self.value)} {self.unit}".rstrip()]
        if self.limit is not None:
            verdict = "met" if self.met else f"missed by {_number(abs(self.value - self.limit))}"
            parts.append(f"(goal {'<=' if self.at_most else '>='} {_number(self.limit)}: {verdict})")
        if self.others:
            parts.append("| " + ", ".join(f"{name} {_number(value)}" for name, value in self.others.items()))
        return " ".join(parts)


@dataclass(slots=True)
class Report:
    """Prints each figure as it comes; ``write`` puts all of them into ``<folder>/<title>.json`` and a dated copy."""

    title: str
    figures: list[Figure] = field(default_factory=list)

    def add(self, figure: Figure) -> None:
        self.figures.append(figure)
        print(figure.line(), flush=True)

    def write(self, folder: Path, **facts: Any) -> Path:
        now = datetime.datetime.now(datetime.UTC)
        document = {
            "benchmark": self.title,
            "date": now.isoformat(timespec="seconds"),
            "machine": machine(),
            **facts,
            "figures": [asdict(figure) | {"met": figure.met} for figure in self.figures],
        }
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(document, indent=2) + "\n"
        latest = folder / f"{self.title}.json"
        latest.write_text(text)
        (folder / f"{self.title}-{now:%Y%m%dT%H%M%SZ}.json").write_text(text)
        judged = [figure for figure in self.figures if figure.met is not None]
        print(f"{sum(bool(one.met) for one in judged)} of {len(judged)} figures meet their goal; all in {latest}")
        return latest


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
