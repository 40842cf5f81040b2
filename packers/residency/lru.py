"""Least recently used: what was used last is worth most. Ignores size, cost and how often."""

from __future__ import annotations

from packers.residency.stay import Residency, Stay
from packers.types import Model


def worth(model: Model, stay: Stay) -> float:
    return stay.last_use_s


LRU = Residency("lru", worth, "the least recently used that may go", recency=True)
