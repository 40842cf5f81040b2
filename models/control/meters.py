"""What the controller counts for /metrics: how long transitions take, quarantines, engines that were lost."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from models.control.costs import Transition
from models.store.records import ControlMeters, EstimateMeter, TransitionMeter
from packers.types import ModelId

BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


@dataclass(slots=True)
class _Histogram:
    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def cumulated(self) -> tuple[int, ...]:
        total, found = 0, []
        for count in self.counts:
            total += count
            found.append(total)
        return tuple(found)


@dataclass(slots=True)
class _Estimates:
    errors: _Histogram = field(default_factory=_Histogram)
    estimated_s: float = 0.0
    took_s: float = 0.0


class Meters:
    """Models that leave the catalog are forgotten: no label outlives them."""

    def __init__(self) -> None:
        self._transitions: dict[tuple[ModelId, Transition, str], _Histogram] = {}
        self._estimates: dict[tuple[ModelId, str], _Estimates] = {}
        self._quarantined: Counter[ModelId] = Counter()
        self._lost: Counter[ModelId] = Counter()

    def took(self, model: ModelId, transition: Transition, tier: str, seconds: float) -> None:
        self._transitions.setdefault((model, transition, tier), _Histogram()).observe(seconds)

    def estimated(self, model: ModelId, transition: str, estimate_s: float, took_s: float) -> None:
        """A transition that was estimated from measurements is done. ``transition``: start, wake, sleep or stop."""
        known = self._estimates.setdefault((model, transition), _Estimates())
        known.errors.observe(abs(took_s - estimate_s))
        known.estimated_s += estimate_s
        known.took_s += took_s

    def quarantine(self, model: ModelId) -> None:
        self._quarantined[model] += 1

    def lose(self, model: ModelId) -> None:
        self._lost[model] += 1

    def quarantined(self, model: ModelId) -> int:
        return self._quarantined[model]

    def remembered(self) -> dict[str, int]:
        return {str(model): count for model, count in self._quarantined.items()}

    def recall(self, quarantined: Mapping[str, int]) -> None:
        """Add what earlier controllers counted."""
        self._quarantined.update({ModelId(model): count for model, count in quarantined.items()})

    def forget(self, model: ModelId) -> None:
        self._transitions = {key: meter for key, meter in self._transitions.items() if key[0] != model}
        self._estimates = {key: known for key, known in self._estimates.items() if key[0] != model}
        del self._quarantined[model], self._lost[model]

    def record(self, excess_bytes: Mapping[ModelId, int]) -> ControlMeters:
        """``excess_bytes``: by how much replicas hold more than their cards say."""
        return ControlMeters(
            bounds_s=BOUNDS_S,
            transitions=tuple(
                TransitionMeter(
                    model_id=model, transition=transition, tier=tier, counts=meter.cumulated(), sum_s=meter.sum_s
                )
                for (model, transition, tier), meter in sorted(self._transitions.items())
            ),
            estimates=tuple(
                EstimateMeter(
                    model_id=model,
                    transition=transition,
                    counts=known.errors.cumulated(),
                    sum_s=known.errors.sum_s,
                    estimated_s=known.estimated_s,
                    took_s=known.took_s,
                )
                for (model, transition), known in sorted(self._estimates.items())
            ),
            quarantined={model: count for model, count in sorted(self._quarantined.items()) if count},
            lost={model: count for model, count in sorted(self._lost.items()) if count},
            excess_bytes=dict(sorted(excess_bytes.items())),
        )
