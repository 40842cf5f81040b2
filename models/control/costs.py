"""What each transition of a model costs here: the last ones of each kind, as they were measured."""

from __future__ import annotations

import functools
import statistics
from collections import deque
from collections.abc import Mapping
from typing import Literal, get_args

from models.fleet.protocol import WeightsTier
from packers.types import DEFAULT_START, ModelId, StartTimes

Transition = Literal["start", "cold_start", "wake", "sleep", "stop"]
KEPT = 5  # enough that one slow start does not count for much
WEIGHTS_TIERS: tuple[WeightsTier, ...] = get_args(WeightsTier)  # the quickest first
UNKNOWN_TIER: WeightsTier = "disk"  # while nobody has looked


def cost_name(transition: Transition, tier: str) -> str:
    """Starts cost different times from different tiers; everything else begins from the same one each time."""
    return f"start_{tier}" if transition == "start" else transition


class CostBook:
    """Seconds from the order until it is done, without the wait for other loads on the same GPU."""

    def __init__(self) -> None:
        self._took_s: dict[ModelId, dict[str, deque[float]]] = {}
        # Asked for by every model at every step; made anew when something was measured.
        self._startups: dict[ModelId, dict[tuple[str, StartTimes], StartTimes]] = {}

    def took(self, model: ModelId, transition: Transition, tier: str, seconds: float) -> None:
        """``tier``: that it began from."""
        self._startups.pop(model, None)
        kinds = self._took_s.setdefault(model, {})
        kinds.setdefault(cost_name(transition, tier), deque(maxlen=KEPT)).append(seconds)

    def medians_s(self, model: ModelId) -> dict[str, float]:
        kinds = self._took_s.get(model, {})
        return {name: round(statistics.median(took), 4) for name, took in sorted(kinds.items())}

    def median_s(self, model: ModelId, transition: Transition, tier: str) -> float | None:
        """None where none was measured that began from there."""
        took_s = self._took_s.get(model, {}).get(cost_name(transition, tier))
        return round(statistics.median(took_s), 4) if took_s else None

    def startup(self, model: ModelId, tier: str, expected: StartTimes = DEFAULT_START) -> StartTimes:
        """What a start from ``tier`` and a wake take. A tier from which it was never started is taken to cost what
        the nearest one did that it was; as expected where there was no start at all."""
        known = self._startups.setdefault(model, {})
        found = known.get((tier, expected))
        if found is None:
            found = known[tier, expected] = self._startup(model, tier, expected)
        return found

    def _startup(self, model: ModelId, tier: str, expected: StartTimes) -> StartTimes:
        medians_s = self.medians_s(model)
        starts_s = [medians_s[name] for name in _nearest(tier) if name in medians_s]
        return StartTimes(
            disk_s=starts_s[0] if starts_s else expected.disk_s,
            host_s=medians_s.get("wake", expected.host_s),
        )

    def remembered(self) -> dict[str, dict[str, tuple[float, ...]]]:
        return {model: {name: tuple(took) for name, took in kinds.items()} for model, kinds in self._took_s.items()}

    def recall(self, before: Mapping[str, Mapping[str, tuple[float, ...]]]) -> None:
        """What this book has seen itself counts more."""
        self._startups.clear()
        for model, kinds in before.items():
            mine = self._took_s.setdefault(ModelId(model), {})
            for name, took_s in kinds.items():
                if took_s and name not in mine:
                    mine[name] = deque(took_s, maxlen=KEPT)

    def forget(self, model: ModelId) -> None:
        self._took_s.pop(model, None)
        self._startups.pop(model, None)


@functools.cache
def _nearest(tier: str) -> tuple[str, ...]:
    """The names of starts, from this tier first; of two as near the quicker one."""
    place = WEIGHTS_TIERS.index(tier) if tier in WEIGHTS_TIERS else WEIGHTS_TIERS.index(UNKNOWN_TIER)
    by_distance = sorted(range(len(WEIGHTS_TIERS)), key=lambda other: (abs(other - place), other))
    return tuple(f"start_{WEIGHTS_TIERS[other]}" for other in by_distance)
