"""What a decision is expected to cost: seconds until it is done, bytes moved, and whom it delays by how much.

Seconds are the medians of what the same transition of the same model took here before (``models.control.costs``). Where
it never happened they are taken from the nearest tier, or assumed, and the decision says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from models.control.costs import UNKNOWN_TIER, Transition
from models.control.tracked import Tracked
from models.control.world import World
from packers.types import (
    DEFAULT_START,
    Action,
    ModelId,
    NodeId,
    ReplicaState,
    Sleep,
    Start,
    StartTimes,
    Stop,
    Wake,
)

STOP_S = 0.5  # assumed, until one was measured
Basis = Literal["measured", "assumed"]


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
    """Reads the world, and changes nothing."""

    def __init__(self, world: World) -> None:
        self._world = world

    def price(self, action: Action, tracked: Tracked, queue_s: float = 0.0) -> Price | None:
        """``tracked``: whom it is done to; of a start the new one. ``queue_s``: until its GPU has loaded what it is
        loading. None for what takes no time."""
        match action:
            case Start():
                return self._load("start", tracked, tracked.began_tier, queue_s)
            case Wake():
                return self._load("wake", tracked, "host", queue_s)
            case Sleep():
                return self._leave("sleep", action, tracked)
            case Stop():
                return self._leave("stop", action, tracked)
            case _:
                return None

    def _load(self, transition: Transition, tracked: Tracked, tier: str, queue_s: float) -> Price:
        median_s = self._world.history.costs.median_s(tracked.model, transition, tier)
        startup = self._startup(tracked.model, tracked.node, tier)
        assumed_s = startup.host_s if transition == "wake" else startup.disk_s
        load_s = assumed_s if median_s is None else median_s
        return Price(
            estimate_s=queue_s + load_s,
            basis="assumed" if median_s is None else "measured",
            load_s=load_s,
            moved_bytes=tracked.footprint.weights_bytes,
            queue_s=queue_s,
        )

    def _leave(self, transition: Transition, action: Sleep | Stop, tracked: Tracked) -> Price:
        costs, model = self._world.history.costs, tracked.model
        startup = self._startup(model, tracked.node)
        sleeps = transition == "sleep"
        assumed_s = startup.host_s if sleeps else STOP_S
        median_s = costs.median_s(model, transition, "gpu")
        back_s = startup.host_s if sleeps else startup.disk_s
        serving = [each for each in self._world.of_model(model) if each.state is ReplicaState.READY]
        delays = ((model, back_s),) if all(each.id == tracked.id for each in serving) and self._known(model) else ()
        load_s, moved = self._newcomer(action.evicted_for, tracked)
        return Price(
            estimate_s=assumed_s if median_s is None else median_s,
            basis="assumed" if median_s is None else "measured",
            load_s=load_s,
            moved_bytes=moved + (tracked.footprint.weights_bytes if sleeps else 0),
            back_s=back_s,
            delays=delays,
        )

    def _newcomer(self, model: ModelId | None, leaver: Tracked) -> tuple[float, int]:
        """Seconds and bytes of the load for which room is made."""
        entry = self._world.entries.get(model) if model is not None else None
        if model is None or entry is None:
            return 0.0, 0
        startup = self._startup(model, leaver.node)
        wakes = any(
            each.gpu == leaver.gpu and each.state is ReplicaState.ASLEEP for each in self._world.of_model(model)
        )
        return startup.host_s if wakes else startup.disk_s, self._world.judged(entry).footprint.weights_bytes

    def _known(self, model: ModelId) -> bool:
        return model in self._world.entries

    def _startup(self, model: ModelId, node: NodeId, tier: str | None = None) -> StartTimes:
        if not self._known(model):
            return DEFAULT_START
        where = tier if tier not in (None, "host") else self._world.weights_tier(model, node)
        return self._world.history.startup(model, where or UNKNOWN_TIER)
