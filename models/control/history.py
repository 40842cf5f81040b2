"""What the loop knows of each model's past: its arrivals, its load, what it costs to move, what it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from models.control.costs import UNKNOWN_TIER, CostBook, Transition
from models.control.demand import Traffic
from models.control.footprints import FootprintBook, Learned, Revision
from models.control.meters import Meters
from packers.load import NO_LOAD, NO_MEMORY, Aim, Load, LoadTracker, ScaleMemory
from packers.types import DEFAULT_START, Demand, ModelId, Plan, StartTimes
from packers.usage import UNUSED, Usage, UsageTracker

FRESH_S = 1.0  # without news, what is known of a model is worked out anew this often


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """What outlives a controller. ``costs_s``: how long the last transitions of each model took, by their names
    (``models.control.costs``). ``learned``: what replicas of each revision held. ``quarantined``: how often."""

    usage: dict[str, Usage] = msgspec.field(default_factory=dict)
    costs_s: dict[str, dict[str, tuple[float, ...]]] = msgspec.field(default_factory=dict)
    learned: dict[str, Learned] = msgspec.field(default_factory=dict)
    quarantined: dict[str, int] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Known:
    """What was worked out at ``at_s``, and from what besides arrivals."""

    at_s: float
    seen: tuple[int, int, Aim]
    usage: Usage
    load: Load


class History:
    """Owned by the loop. A new controller takes over what its predecessor knew (``Remembered``); the load of the last
    minutes is learned anew.

    A model that was never called has no trackers: most of a long catalog costs nothing.
    """

    def __init__(self) -> None:
        self._usage: dict[ModelId, UsageTracker] = {}
        self._load: dict[ModelId, LoadTracker] = {}
        self.costs = CostBook()
        self.meters = Meters()
        self.footprints = FootprintBook()
        self._memories: dict[ModelId, ScaleMemory] = {}
        self._known: dict[ModelId, _Known] = {}
        self._calm: set[ModelId] = set()
        self._began_s: float | None = None  # when it was first told anything

    def take(self, traffic: dict[ModelId, Traffic], now: float, aim: Callable[[ModelId], Aim]) -> None:
        """``traffic``: since the last time, taken to have arrived now. To be called in every step.

        ``aim``: what a model's replicas are for, asked when it is called for the first time.
        """
        if self._began_s is None:
            self._began_s = now
        for model, seen in traffic.items():
            self._known.pop(model, None)
            if seen.arrived:
                self._calm.discard(model)
                self._usage_of(model).arrive(now, seen.arrived)
                self._load_of(model, aim).arrive(now, seen.arrived)
            if seen.finished:
                self._load_of(model, aim).finish(now, seen.finished, seen.busy_s)

    def observe(self, model: ModelId, demand: Demand, aim: Aim, now: float) -> None:
        """``aim``: what its replicas are for, as far as that is known now."""
        usage, load, known = self._usage.get(model), self._load.get(model), self._known.get(model)
        if usage is None and load is None:
            return
        seen = (demand.in_flight, demand.held, aim)
        if known is not None and known.seen == seen and now - known.at_s < FRESH_S:
            return
        if load is not None:
            load.retarget(aim)
            load.observe(now, demand.in_flight + demand.held, demand.held)
        self._known[model] = _Known(
            now, seen, UNUSED if usage is None else usage.usage(now), NO_LOAD if load is None else load.load(now)
        )

    def took(self, model: ModelId, transition: Transition, tier: str, seconds: float) -> None:
        """From the order until it was done, without the wait for other loads on the same GPU."""
        self.costs.took(model, transition, tier, seconds)
        self.meters.took(model, transition, tier, seconds)

    def decided(self, plan: Plan) -> None:
        self._memories.update((model, memory) for model, memory in plan.memories if model not in self._calm)

    def usage(self, model: ModelId) -> Usage:
        """As of the last ``observe``, or FRESH_S before."""
        known = self._known.get(model)
        return UNUSED if known is None else known.usage

    def load(self, model: ModelId) -> Load:
        """As of the last ``observe``, or FRESH_S before."""
        known = self._known.get(model)
        return NO_LOAD if known is None or model in self._calm else known.load

    def calm(self, model: ModelId) -> None:
        """An operator has put it down: until it is called again, its load is no reason to bring it back."""
        self._calm.add(model)
        self._memories.pop(model, None)

    def memory(self, model: ModelId) -> ScaleMemory:
        return self._memories.get(model, NO_MEMORY)

    def startup(self, model: ModelId, tier: str = UNKNOWN_TIER, expected: StartTimes = DEFAULT_START) -> StartTimes:
        """``tier``: where a start would find its weights now."""
        return self.costs.startup(model, tier, expected)

    def remembered(self, now: float) -> Remembered:
        return Remembered(
            usage={model: tracker.usage(now) for model, tracker in self._usage.items()},
            costs_s=self.costs.remembered(),
            learned=self.footprints.remembered(),
            quarantined=self.meters.remembered(),
        )

    def recall(self, before: Remembered, now: float) -> None:
        """Go on from what an earlier controller knew; what this one has seen itself counts more."""
        for name, usage in before.usage.items():
            model = ModelId(name)
            if model not in self._usage:
                self._usage[model] = UsageTracker.of(usage, now)
        self.costs.recall(before.costs_s)
        self.footprints.recall(before.learned)
        self.meters.recall(before.quarantined)

    def forget(self, model: ModelId) -> None:
        """It has left the catalog."""
        self._usage.pop(model, None)
        self._load.pop(model, None)
        self._memories.pop(model, None)
        self._known.pop(model, None)
        self._calm.discard(model)
        self.costs.forget(model)
        self.meters.forget(model)

    def keep(self, revisions: Iterable[Revision]) -> None:
        """These are in the catalog; what was measured of others is of no use any more."""
        self.footprints.keep(revisions)

    def _usage_of(self, model: ModelId) -> UsageTracker:
        if model not in self._usage:
            self._usage[model] = UsageTracker(self._began_s or 0.0)
        return self._usage[model]

    def _load_of(self, model: ModelId, aim: Callable[[ModelId], Aim]) -> LoadTracker:
        if model not in self._load:
            self._load[model] = LoadTracker(aim(model))
        return self._load[model]
