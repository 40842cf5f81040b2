"""What ``ours`` is measured against: published policies, and oracles that know the trace's future."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from loadtests.policies.residency.lean import Policy, Watcher
from packers.residency import LRU, RESIDENCY, Residency, Stay, Tier
from packers.types import Model

GB = 1e9


class Gdsf(Watcher):
    """GreedyDual-Size-Frequency with its clock, as in FaasCache; one clock for each tier."""

    def __init__(self, models: Sequence[Model]) -> None:
        self.models = models
        self.number = {model.id: place for place, model in enumerate(models)}
        self.uses = [0] * len(models)
        self.priority = [0.0] * len(models)
        self.asleep = [0.0] * len(models)
        self.clock = self.host_clock = 0.0

    def used(self, model: int, now_s: float) -> None:
        self.uses[model] += 1
        self._value(model)

    def loaded(self, model: int) -> None:
        self._value(model)

    def evicted(self, model: int) -> None:
        self.clock = max(self.clock, self.priority[model])
        self.uses[model] = 0

    def slept(self, model: int) -> None:
        one = self.models[model]
        self.asleep[model] = self._asleep(one)

    def dropped(self, model: int) -> None:
        self.host_clock = max(self.host_clock, self.asleep[model])

    def _value(self, model: int) -> None:
        one = self.models[model]
        size = one.footprint.gpu_bytes / GB
        self.priority[model] = self.clock + max(1, self.uses[model]) * one.startup.host_s / size

    def _asleep(self, one: Model) -> float:
        return self.host_clock + one.startup.disk_s / max(one.footprint.host_bytes / GB, 1e-3)

    def worth(self, model: Model, stay: Stay) -> float:
        number = self.number[model.id]
        if stay.tier is Tier.GPU:
            return self.priority[number]
        return max(self.asleep[number], self._asleep(model))


class Ahead(Watcher):
    """Knows when each model is used next."""

    def __init__(self, models: Sequence[Model], at_s: Sequence[float], model: Sequence[int]) -> None:
        self.number = {one.id: place for place, one in enumerate(models)}
        upcoming: list[list[float]] = [[] for _ in models]
        for time_s, one in zip(reversed(at_s), reversed(model), strict=True):
            upcoming[one].append(time_s)
        self.upcoming = upcoming

    def used(self, model: int, now_s: float) -> None:
        self.upcoming[model].pop()

    def soon_per_s(self, model: Model, stay: Stay) -> float:
        left = self.upcoming[self.number[model.id]]
        return 1.0 / max(1e-3, (left[-1] if left else inf) - stay.now_s)

    def nearness(self, model: Model, stay: Stay) -> float:
        return self.soon_per_s(model, stay) / stay.size_bytes

    def saved(self, model: Model, stay: Stay) -> float:
        startup = model.startup
        saved_s = startup.disk_s - startup.host_s if stay.tier is Tier.HOST else startup.host_s
        return self.soon_per_s(model, stay) * saved_s


def baseline(name: str, models: Sequence[Model], at_s: Sequence[float], model: Sequence[int]) -> Policy:
    """``belady``: size-aware Belady as it is usually meant, the largest size x time to the next use goes first, LRU in
    host RAM; to it LRU, GreedyDual and the decayed rate compare about as published for these goals. ``oracle`` is much
    stronger: the least sum of start-up seconds / time to the next use, with foresight in host RAM, too. Else a policy
    of ``RESIDENCY`` in both tiers."""
    if name == "lru":
        return Policy(LRU, LRU, learns=False)
    if name == "gdsf":
        gdsf = Gdsf(models)
        policy = Residency("gdsf", gdsf.worth, "")
        return Policy(policy, policy, gdsf, learns=False)
    if name in ("belady", "oracle"):
        ahead = Ahead(models, at_s, model)
        if name == "belady":
            return Policy(Residency(name, ahead.nearness, ""), LRU, ahead, learns=False)
        oracle = Residency(name, ahead.saved, "", adds_up=True)
        return Policy(oracle, oracle, ahead, learns=False)
    return Policy(RESIDENCY[name], RESIDENCY[name])
