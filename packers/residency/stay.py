"""What a residency policy looks at and what it says. See ``packers.residency`` for the policies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import NamedTuple

from packers.types import Model


class Tier(Enum):
    """Where a copy of a model is kept: ready on a GPU, or asleep in host RAM."""

    GPU = "gpu"
    HOST = "host"


class Stay(NamedTuple):
    """One copy in one tier: ``size_bytes`` there ``since_s``, last of use at ``last_use_s``."""

    tier: Tier
    now_s: float
    last_use_s: float
    since_s: float
    size_bytes: int

    @property
    def idle_s(self) -> float:
        return max(0.0, self.now_s - self.last_use_s)


Worth = Callable[[Model, Stay], float]
Recall = Callable[[Model, float, float], bool]


@dataclass(frozen=True, slots=True)
class Residency:
    """A policy.

    ``worth(model, stay)``: what keeping the copy is worth; higher is kept. ``adds_up``: worths are what is saved per
    second of keeping, so those of several copies may be added, and divided by their bytes; otherwise only their order
    means something. ``why`` says in words whom it lets go. ``recall(model, now_s, last_use_s)``: it should be on a GPU
    now although nobody asks for it; None where the policy brings nothing back by itself. ``barters``: brings back
    whatever is worth clearly more than what it would displace (``packers.residency.prewarm``). ``recency``: the worth
    is the last use, for which no model is needed.
    """

    name: str
    worth: Worth
    why: str
    adds_up: bool = False
    recall: Recall | None = None
    barters: bool = False
    recency: bool = False

    def value(self, model: Model | None, stay: Stay) -> float:
        """``worth``; of a copy whose model is in no catalog any more (None) as little as can be."""
        if model is not None:
            return self.worth(model, stay)
        if self.recency:
            return stay.last_use_s
        return 0.0 if self.adds_up else -inf
