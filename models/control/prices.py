"""What a decision is expected to cost: seconds until it is done, bytes moved, and whom it delays by how much.

Seconds are the medians of what the same transition of the same model took here before, from this tier or the nearest
one (``models.control.costs``). Where it never happened they are what other models' took, by the size of their weights;
and where there are none of these either they are assumed. The decision says which.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

from models.control.costs import UNKNOWN_TIER, Transition, cost_name
from models.control.reckoning import MUCH_LARGER
from models.control.tracked import Tracked
from models.control.world import World
from packers.sim.startup import Sample, TierTime, fit_tier
from packers.types import (
    DEFAULT_START,
    Action,
    ModelId,
    NodeId,
    ReplicaState,
    Sleep,
    Start,
    Stop,
    Wake,
)

STOP_S = 0.5  # assumed, until one was measured
SEEN_KEPT = 32
Basis = Literal["measured", "others", "assumed"]


@dataclass(frozen=True, slots=True)
class Price:
    """``estimate_s``: until it is done, of which ``queue_s`` for loads that are under way on the same GPU; of a sleep
    or a stop from when it has drained. ``load_s``: of weights, by this decision and for its sake. ``back_s``: to undo
    it, None where there is nothing to undo. ``delays``: models whose next callers are served so much later for it."""

    estimate_s: float
    basis: Basis
    load_s: float
    moved_bytes: int
    queue_s: float = 0.0
    back_s: float | None = None
    delays: tuple[tuple[ModelId, float], ...] = ()

    def details(self) -> dict[str, Any]:
        """For a decision record."""
        cost: dict[str, Any] = {"load_s": round(self.load_s, 4), "moved_bytes": self.moved_bytes}
        if self.back_s is not None:
            cost["back_s"] = round(self.back_s, 4)
        cost["delays"] = {model: round(later_s, 4) for model, later_s in self.delays}
        return {
            "estimate_s": round(self.estimate_s, 4),
            "estimated_from": self.basis,
            **({"queue_s": round(self.queue_s, 4)} if self.queue_s else {}),
            "cost": cost,
        }


class PriceList:
    """Reads the world, and changes nothing of it. What it is told of transitions of all models (``learn``) says what
    one takes of a model that never had it: a fixed time and a bandwidth, fitted to sizes of weights."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen: dict[str, deque[Sample]] = {}  # by ``cost_name``
        self._fits: dict[str, tuple[TierTime, int] | None] = {}  # with the most bytes that they can be asked for

    def learn(self, transition: Transition, tier: str, weights_bytes: int, took_s: float) -> None:
        name = cost_name(transition, tier)
        if name not in self._seen:
            self._seen[name] = deque(self._remembered(name), maxlen=SEEN_KEPT)
        self._seen[name].append(Sample(weights_bytes, took_s))
        self._fits.pop(name, None)

    def price(self, action: Action, tracked: Tracked, queue_s: float = 0.0) -> Price | None:
        """``tracked``: whom it is done to; of a start the new one. ``queue_s``: until its GPU has loaded what it is
        loading. None for what takes no time."""
        match action:
            case Start():
                return self._load("start", tracked, tracked.began_tier, queue_s)
            case Wake():
                return self._load("wake", tracked, "host", queue_s)
            case Sleep() | Stop():
                return self._leave(action, tracked)
            case _:
                return None

    def _load(self, transition: Transition, tracked: Tracked, tier: str, queue_s: float) -> Price:
        weights_bytes = tracked.footprint.weights_bytes
        load_s, basis = self._expected_s(transition, tracked.model, tier, weights_bytes)
        return Price(queue_s + load_s, basis, load_s, weights_bytes, queue_s)

    def _leave(self, action: Sleep | Stop, tracked: Tracked) -> Price:
        model, weights_bytes = tracked.model, tracked.footprint.weights_bytes
        sleeps = isinstance(action, Sleep)
        estimate_s, basis = self._expected_s("sleep" if sleeps else "stop", model, "gpu", weights_bytes)
        tier = "host" if sleeps else self._tier(model, tracked.node)
        back_s, _ = self._expected_s("wake" if sleeps else "start", model, tier, weights_bytes)
        serving = [each for each in self._world.of_model(model) if each.state is ReplicaState.READY]
        delays = ((model, back_s),) if all(each.id == tracked.id for each in serving) and self._known(model) else ()
        load_s, moved_bytes = self._newcomer(action.evicted_for, tracked)
        moved_bytes += weights_bytes if sleeps else 0
        return Price(estimate_s, basis, load_s, moved_bytes, back_s=back_s, delays=delays)

    def _newcomer(self, model: ModelId | None, leaver: Tracked) -> tuple[float, int]:
        """Seconds and bytes of the load for which room is made."""
        entry = self._world.entries.get(model) if model is not None else None
        if model is None or entry is None:
            return 0.0, 0
        weights_bytes = self._world.judged(entry).footprint.weights_bytes
        there = self._world.of_model(model)
        wakes = any(each.gpu == leaver.gpu and each.state is ReplicaState.ASLEEP for each in there)
        tier = "host" if wakes else self._tier(model, leaver.node)
        load_s, _ = self._expected_s("wake" if wakes else "start", model, tier, weights_bytes)
        return load_s, weights_bytes

    def _expected_s(self, transition: Transition, model: ModelId, tier: str, weights_bytes: int) -> tuple[float, Basis]:
        costs = self._world.history.costs
        median_s = costs.median_s(model, transition, tier)
        if median_s is not None:
            return median_s, "measured"
        startup = costs.startup(model, tier if transition == "start" else UNKNOWN_TIER)
        assumed_s = startup.disk_s if transition == "start" else STOP_S if transition == "stop" else startup.host_s
        if transition == "start" and startup.disk_s != DEFAULT_START.disk_s:
            return assumed_s, "measured"  # from another tier
        others_s = self._of_others(cost_name(transition, tier), weights_bytes)
        return (assumed_s, "assumed") if others_s is None else (others_s, "others")

    def _of_others(self, name: str, weights_bytes: int) -> float | None:
        """None: nobody had it yet, or only much smaller ones."""
        if name not in self._fits:
            seen = self._seen.get(name) or self._remembered(name)
            most_bytes = MUCH_LARGER * max((one.weights_bytes for one in seen), default=0)
            self._fits[name] = (fit_tier(seen), most_bytes) if seen else None
        found = self._fits[name]
        return found[0].seconds(weights_bytes) if found is not None and weights_bytes <= found[1] else None

    def _remembered(self, name: str) -> list[Sample]:
        """What earlier controllers measured."""
        world = self._world
        medians_s = ((entry, world.history.costs.medians_s(entry.id).get(name)) for entry in world.entries.values())
        return [
            Sample(world.judged(entry).footprint.weights_bytes, took_s)
            for entry, took_s in medians_s
            if took_s is not None
        ]

    def _known(self, model: ModelId) -> bool:
        return model in self._world.entries

    def _tier(self, model: ModelId, node: NodeId) -> str:
        return (self._world.weights_tier(model, node) if self._known(model) else None) or UNKNOWN_TIER
