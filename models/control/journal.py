"""The decision record: what was done, to whom, why, at what price, and what else was looked at; later how it came out.

A decision that takes time has an estimate of it (``models.control.prices``). When it is done, a second record refers to
the first (``of``) and says what it really took; readers put the two together. The replica carries the key of the
decision in between, in its own record too, so that an outcome finds its decision over restarts of the controller.

What would have to be otherwise (``packers.counterfactual``) is worked out for what is noted, at most EXPLAINED_A_STEP
times: however many models wait, deciding for them stays cheap.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import msgspec

from models.control.prices import Price, PriceList
from models.control.tracked import Tracked
from models.control.world import World
from models.store.records import DecisionRecord
from packers.counterfactual import alternatives, never
from packers.explain import span
from packers.state import State
from packers.types import Action, GpuId, Hold, ModelId, NoFit, Refuse, ReplicaId, Sleep, Start, Stop, Wake

EXPLAINED_A_STEP = 4


@dataclass(frozen=True, slots=True)
class _Open:
    """A transition that was decided and goes on."""

    key: str
    action: str
    gpu: GpuId
    at_s: float
    price: Price


class Journal:
    """Collects decisions until the loop writes them. A hold is noted when its reason is new, not at every step."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._prices = PriceList(world)
        self._pending: list[DecisionRecord] = []
        self._holds: dict[ModelId, str] = {}
        self._open: dict[ReplicaId, _Open] = {}
        self._state: State | None = None
        self._explained = 0

    @property
    def pending(self) -> tuple[DecisionRecord, ...]:
        return tuple(self._pending)

    def written(self, count: int) -> None:
        """The first ``count`` pending decisions are in the store."""
        del self._pending[:count]

    def decides_on(self, state: State) -> None:
        """What follows was decided on ``state``; it stays as it is until the next call."""
        self._state, self._explained = state, 0
        if len(self._open) > 2 * len(self._world.replicas) + 16:  # of replicas that went without an outcome
            self._open = {name: one for name, one in self._open.items() if name in self._world.replicas}

    def plan(self, action: Action, replica: ReplicaId | None = None) -> None:
        whom = replica or getattr(action, "replica", None)
        tracked = self._world.replicas.get(whom) if whom is not None else None
        details = _details(action)
        price = None
        if tracked is not None:
            price = self._prices.price(action, tracked, self._queue_s(tracked.gpu))
            details |= price.details() if price is not None else {}
        found = self._counterfactuals(action)
        if found:
            details["counterfactuals"] = found
        record = self._add(
            type(action).__name__.lower(),
            action.model,
            action.reason,
            replica=whom,
            gpu=getattr(action, "gpu", None),
            evicted_for=getattr(action, "evicted_for", None),
            details=details,
        )
        if tracked is not None and price is not None:
            self._opened(tracked, record, price)

    def ordered(self, action: Sleep | Stop) -> None:
        """An operator's, or the configuration's: nothing else was looked at."""
        self._state = None
        self.plan(action)

    def hold(self, action: Hold) -> None:
        if self._holds.get(action.model) != action.reason:
            self._holds[action.model] = action.reason
            self.plan(action)

    def forget_holds(self, still_held: set[ModelId]) -> None:
        for model in [m for m in self._holds if m not in still_held]:
            del self._holds[model]

    def note(self, what: str, tracked: Tracked, reason: str, **details: Any) -> None:
        """Something that happened to a replica."""
        self._add(what, tracked.model, reason, replica=tracked.id, gpu=tracked.gpu, details=details)

    def outcome(self, what: str, tracked: Tracked, reason: str, took_s: float | None = None, **details: Any) -> None:
        """How the decision that it was in transition by came out. ``took_s`` compares with its ``estimate_s``; None for
        one that came to nothing: then it is the time since it was made."""
        was, of = self._open.pop(tracked.id, None), tracked.decision or None
        tracked.decision = ""
        found: dict[str, Any] = {}
        if took_s is not None:
            found["took_s"] = round(took_s, 4)
            self._learn(what, tracked, float(details.get("start_s", took_s)))
        if was is not None and was.key == of:
            found.setdefault("took_s", round(max(0.0, self._world.now - was.at_s), 4))
            found |= {"estimate_s": round(was.price.estimate_s, 4), "decided": was.action}
            if took_s is not None and was.price.basis == "measured":
                self._world.history.meters.estimated(tracked.model, was.action, was.price.estimate_s, took_s)
        self._add(what, tracked.model, reason, replica=tracked.id, gpu=tracked.gpu, details=found | details, of=of)

    def note_text(self, what: str, model: ModelId | None, reason: str, **details: Any) -> None:
        self._add(what, model, reason, details=details)

    def _learn(self, what: str, tracked: Tracked, took_s: float) -> None:
        if tracked.adopted or tracked.cold:
            return
        weights_bytes = tracked.footprint.weights_bytes
        if what == "ready" and tracked.woke:
            self._prices.learn("wake", "host", weights_bytes, took_s)
        elif what == "ready":
            self._prices.learn("start", tracked.began_tier, weights_bytes, took_s)
        else:
            self._prices.learn("sleep" if what == "asleep" else "stop", "gpu", weights_bytes, took_s)

    def _opened(self, tracked: Tracked, record: DecisionRecord, price: Price) -> None:
        tracked.decision = record.key
        self._open[tracked.id] = _Open(record.key, record.action, tracked.gpu, record.at_unix_s, price)

    def _queue_s(self, gpu: GpuId) -> float:
        """Until the loads that are under way on a GPU are over: they are serialised."""
        loads = [one for one in self._open.values() if one.gpu == gpu and one.action in ("start", "wake")]
        return max((max(0.0, one.at_s + one.price.estimate_s - self._world.now) for one in loads), default=0.0)

    def _counterfactuals(self, action: Action) -> list[str]:
        state = self._state
        if state is None or self._explained >= EXPLAINED_A_STEP:
            return []
        found = _otherwise(action, state)
        self._explained += bool(found)
        return found

    def _add(
        self,
        what: str,
        model: ModelId | None,
        reason: str,
        *,
        replica: str | None = None,
        gpu: str | None = None,
        evicted_for: str | None = None,
        details: dict[str, Any] | None = None,
        of: str | None = None,
    ) -> DecisionRecord:
        key = uuid.uuid4().hex[:12]
        record = DecisionRecord(
            id=key,
            at_unix_s=self._world.now,
            snapshot_id=str(self._world.seq),
            action=what,
            model_id=model,
            replica_id=replica,
            gpu=gpu,
            reason=reason,
            evicted_for=evicted_for,
            details=details or {},
            key=key,
            of=of,
        )
        self._pending.append(record)
        return record


def _otherwise(action: Action, state: State) -> list[str]:
    """What else would have been possible, and at what price."""
    match action:
        case Hold(model=model):
            return [one.text for one in alternatives(state, model)]
        case Refuse(model=model) if model in state.models:
            return [never(state.models[model], state)]
        case Start(model=model, gpu=gpu, peers=peers):
            runner_up = next((one for one in action.candidates if one.score is not None and one.gpu != gpu), None)
            if runner_up is not None:
                return [f"else it would fit on {runner_up.gpu} (score {runner_up.score:.4g})"]
            return [f"else it {one.text}" for one in alternatives(state, model, without=(gpu, *peers), most=1)]
        case Wake(model=model) if model in state.models:
            startup = state.models[model].startup
            return [f"a start instead takes {span(startup.disk_s)}, waking it {span(startup.host_s)}"]
        case Sleep(evicted_for=model, gpu=gpu) | Stop(evicted_for=model, gpu=gpu) if model is not None:
            return [f"else {model} {one.text}" for one in alternatives(state, model, without=(gpu,), most=2)]
        case _:
            return []


def _details(action: Action) -> dict[str, Any]:
    details: dict[str, Any] = {}
    candidates = getattr(action, "candidates", ())
    if candidates:
        details["candidates"] = [msgspec.to_builtins(candidate) for candidate in candidates]
    no_fit = getattr(action, "no_fit", None)
    if isinstance(no_fit, NoFit):
        details["no_fit"] = msgspec.to_builtins(no_fit)
    if isinstance(action, Start) and action.replaces is not None:
        details["replaces"] = action.replaces
        if action.gain_gpus:
            details |= {"gain_gpus": round(action.gain_gpus, 4), "cost_gpu_s": round(action.cost_gpu_s, 4)}
    return details
