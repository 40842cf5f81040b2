"""A small simulator for residency alone: one replica per model, no limit on requests at a time, nothing takes time but
starts. It calls what production calls: ``packers.eviction`` on the GPUs, ``packers.residency.outbid`` in host RAM,
``packers.residency.prewarm``. A load begins when there is room; a ready replica with requests is not evicted; a copy
wakes on any GPU; RAM that a waking copy held is free as soon as its load begins. Delayed: arrived while its model was
not ready.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop
from math import inf

import numpy as np
import numpy.typing as npt

from loadtests.policies.residency.zoo import GPU_BYTES
from packers.eviction import Eviction, Shelf, Victim, evict
from packers.residency import LRU, Bid, Residency, outbid
from packers.residency.prewarm import EVERY_S, Sleeper, returns, turnover_s
from packers.types import Gpu, GpuId, Model, NodeId, Replica, ReplicaId, ReplicaState
from packers.usage import UsageTracker

NOWHERE = -1


class Watcher:
    """Told of what happens; for baselines that keep books of their own."""

    def used(self, model: int, now_s: float) -> None:
        """A request has arrived."""

    def loaded(self, model: int) -> None:
        """It begins to load to a GPU."""

    def evicted(self, model: int) -> None:
        """It left its GPU."""

    def slept(self, model: int) -> None:
        """It is in host RAM now."""

    def dropped(self, model: int) -> None:
        """It left host RAM for good."""


@dataclass(frozen=True, slots=True)
class Policy:
    """``gpu`` chooses on the GPUs, ``host`` in host RAM. ``learns``: it reads the models' usage."""

    gpu: Residency
    host: Residency = LRU
    watcher: Watcher | None = None
    learns: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """``waits_s``: of each request. ``load_s``: of all loads together."""

    waits_s: npt.NDArray[np.float64]
    loads: int
    disk_loads: int
    ahead: int
    load_s: float

    @property
    def delayed_percent(self) -> float:
        return 100 * float(np.mean(self.waits_s > 0)) if self.waits_s.size else 0.0

    def within_percent(self, wait_s: float) -> float:
        return 100 * float(np.mean(self.waits_s <= wait_s)) if self.waits_s.size else 100.0

    @property
    def p99_s(self) -> float:
        return float(np.quantile(self.waits_s, 0.99)) if self.waits_s.size else 0.0


class Lean:
    def __init__(self, models: Sequence[Model], gpus: int, host_bytes: int, policy: Policy) -> None:
        self.policy, self.watcher = policy, policy.watcher or Watcher()
        self.models = list(models)
        self.trackers = [UsageTracker() for _ in models]
        self.stale: set[int] = set()
        node = NodeId("n")
        self.gpus = [Gpu(GpuId(f"n/{place:03d}"), node, place, GPU_BYTES) for place in range(gpus)]
        self.free = [GPU_BYTES] * gpus
        self.on = [dict[int, None]() for _ in range(gpus)]
        self.host_free = host_bytes
        self.host_bytes = host_bytes
        self.asleep: dict[int, None] = {}
        self.where = [NOWHERE] * len(models)
        self.ready_s = [0.0] * len(models)
        self.busy_s = [0.0] * len(models)
        self.last_s = [-inf] * len(models)
        self.replica = [
            Replica(ReplicaId(one.id), one.id, self.gpus[0].id, ReplicaState.ASLEEP, one.footprint) for one in models
        ]
        self.waiting: dict[int, list[int]] = {}  # by model, in the order in which they began to wait
        self.ahead: dict[int, None] = {}  # loading although nobody waits
        self.loads = self.disk_loads = self.aheads = 0
        self.load_s = 0.0
        self.looked_s = -inf

    def play(self, at_s: Sequence[float], model: Sequence[int], service_s: Sequence[float]) -> Outcome:
        self.at_s, self.service_s = at_s, service_s
        self.waits_s = [0.0] * len(at_s)
        learns, looks = self.policy.learns, self.policy.gpu.barters or self.policy.gpu.recall is not None
        for number, (now_s, one) in enumerate(zip(at_s, model, strict=True)):
            if self.waiting:
                self._retry(now_s)
            if learns:
                self.trackers[one].arrive(now_s)
                self.stale.add(one)
            self.last_s[one] = now_s
            self.watcher.used(one, now_s)
            if self.where[one] == NOWHERE:
                self.waiting.setdefault(one, []).append(number)
                self._serve(one, now_s)
            else:
                begins_s = max(now_s, self.ready_s[one])
                self.waits_s[number] = begins_s - now_s
                self.busy_s[one] = max(self.busy_s[one], begins_s + service_s[number])
            if looks and not self.waiting and now_s >= self.looked_s + EVERY_S:
                self.looked_s = now_s
                self._bring_back(now_s)
        self._retry(inf)
        return Outcome(np.array(self.waits_s), self.loads, self.disk_loads, self.aheads, self.load_s)

    def _retry(self, until_s: float) -> None:
        """Those that wait get what becomes idle before then, in the order in which they began to wait."""
        while self.waiting:
            idle_s = [max(self.busy_s[one], self.ready_s[one]) for there in self.on for one in there]
            later = [time_s for time_s in idle_s if self._clock < time_s <= until_s]
            if not later:
                return
            heapify(later)
            self._clock = heappop(later)
            for one in list(self.waiting):
                self._serve(one, self._clock)

    _clock = -inf

    def _serve(self, one: int, now_s: float) -> None:
        self._clock = now_s
        place = self._place(one, now_s)
        if place is None:
            return
        self._load(one, place, now_s)
        for number in self.waiting.pop(one):
            self.waits_s[number] = self.ready_s[one] - self.at_s[number]
            self.busy_s[one] = max(self.busy_s[one], self.ready_s[one] + self.service_s[number])

    def _place(self, one: int, now_s: float) -> int | None:
        fits = self._fits(one)
        if fits is not None:
            return fits
        ranked = evict(self.policy.gpu, self._shelves(one, now_s))
        return self._clear(ranked[0], now_s) if ranked else None

    def _fits(self, one: int) -> int | None:
        needs_bytes = self.models[one].footprint.gpu_bytes
        fits = [(free, place) for place, free in enumerate(self.free) if free >= needs_bytes]
        return min(fits)[1] if fits else None

    def _shelves(self, one: int, now_s: float) -> list[Shelf]:
        needs_bytes = self.models[one].footprint.gpu_bytes
        busy_s, ready_s, last_s = self.busy_s, self.ready_s, self.last_s
        found = []
        for place, there in enumerate(self.on):
            idle = [other for other in there if busy_s[other] <= now_s and ready_s[other] <= now_s]
            if self.free[place] + sum(self.models[other].footprint.gpu_bytes for other in idle) < needs_bytes:
                continue
            victims = []
            for other in idle:
                model = self._model(other)
                used_s = max(last_s[other], self.replica[other].state_since_s)
                victims.append(Victim(self.replica[other], False, model.footprint.gpu_bytes, used_s, 0, model=model))
            found.append(Shelf(self.gpus[place], needs_bytes, self.free[place], None, tuple(victims), now_s))
        return found

    def _model(self, one: int) -> Model:
        if one in self.stale:
            self.stale.discard(one)
            self.models[one] = replace(self.models[one], usage=self.trackers[one].usage(self.last_s[one]))
        return self.models[one]

    def _clear(self, eviction: Eviction, now_s: float) -> int:
        place = eviction.shelf.gpu.index
        there = {self.replica[one].id: one for one in self.on[place]}
        for victim in reversed(eviction.victims):  # the dearest has the first claim on host RAM
            one = there[victim.replica.id]
            del self.on[place][one]
            self.free[place] += victim.frees_bytes
            self.where[one] = NOWHERE
            self.watcher.evicted(one)
            self._sleep(one, now_s)
        return place

    def _sleep(self, one: int, now_s: float) -> None:
        short_bytes = self.models[one].footprint.host_bytes - self.host_free
        if short_bytes > 0:
            others = [self._bid(other, now_s) for other in self.asleep]
            by_name = dict(zip((bid.name for bid in others), self.asleep, strict=True))
            chosen = outbid(self._bid(one, now_s), others, short_bytes, now_s, self.policy.host)
            if not chosen:
                return
            for bid in chosen:
                gone = by_name[bid.name]
                del self.asleep[gone]
                self.host_free += self.models[gone].footprint.host_bytes
                self.watcher.dropped(gone)
        self.asleep[one] = None
        self.host_free -= self.models[one].footprint.host_bytes
        self.watcher.slept(one)

    def _bid(self, one: int, now_s: float) -> Bid:
        model, replica = self._model(one), self.replica[one]
        return Bid(model.id, model, 0, model.footprint.host_bytes, self.last_s[one], replica.state_since_s)

    def _load(self, one: int, place: int, now_s: float) -> None:
        startup = self.models[one].startup
        load_s = startup.disk_s
        if one in self.asleep:
            del self.asleep[one]
            self.host_free += self.models[one].footprint.host_bytes
            load_s = startup.host_s
        else:
            self.disk_loads += 1
        self.loads += 1
        self.load_s += load_s
        self.where[one] = place
        self.on[place][one] = None
        self.free[place] -= self.models[one].footprint.gpu_bytes
        self.ready_s[one] = self.busy_s[one] = now_s + load_s
        self.replica[one] = replace(self.replica[one], gpu=self.gpus[place].id, state_since_s=now_s)
        self.watcher.loaded(one)

    def _bring_back(self, now_s: float) -> None:
        for one in [one for one in self.ahead if self.ready_s[one] <= now_s or self.where[one] == NOWHERE]:
            del self.ahead[one]
        sleepers = [Sleeper(self._model(one), self.replica[one], self.last_s[one]) for one in self.asleep]
        index = {self.replica[one].id: one for one in self.asleep}
        ages = (self.replica[one].state_since_s for there in self.on for one in there)
        found = returns(
            self.policy.gpu,
            sleepers,
            lambda sleeper: self._places(index[sleeper.replica.id], now_s),
            now_s,
            turnover_s(ages, now_s),
            len(self.ahead),
        )
        if found is None:
            return
        one = index[found.sleeper.replica.id]
        place = self._clear(found.place, now_s)
        self.aheads += 1
        self.ahead[one] = None
        self._load(one, place, now_s)

    def _places(self, one: int, now_s: float) -> Sequence[Eviction]:
        fits = self._fits(one)
        if fits is None:
            return evict(self.policy.gpu, self._shelves(one, now_s))
        shelf = Shelf(self.gpus[fits], self.models[one].footprint.gpu_bytes, self.free[fits], None, (), now_s)
        return (Eviction(shelf, (), 0.0, "there is room"),)
