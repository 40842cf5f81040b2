"""A plan in the making: each method enters an action into the trial's ledgers and words its reason."""

from __future__ import annotations

from enum import Enum, auto

from packers.defrag.moves import Move
from packers.eviction import EVICTION, Eviction, EvictionPolicy, Harm, Shelf
from packers.explain import count, names, size, span
from packers.limits import Limits
from packers.placement import CANDIDATES_SHOWN, Spot
from packers.residency import RESIDENCY, Residency
from packers.residency.prewarm import Return
from packers.retire import Way, WayOut, apply, way_out
from packers.room import Clearing
from packers.scaling import last_use_s
from packers.shelves import bytes_needed, rejected
from packers.trial import Trial
from packers.types import (
    Action,
    Candidate,
    Footprint,
    Gpu,
    GpuId,
    Hold,
    Model,
    ModelId,
    NoFit,
    Refuse,
    Replica,
    ReplicaId,
    ReplicaState,
    Resize,
    Sleep,
    Start,
    Stop,
    Wake,
)
from packers.verdicts import Need, victims


class Outcome(Enum):
    DONE = auto()  # started or woken
    WAITING = auto()  # held until something that is under way is done
    BLOCKED = auto()  # held or refused; nothing is under way for it


class Draft:
    def __init__(self, trial: Trial, eviction: str = "lru") -> None:
        """``eviction``: a name in EVICTION and RESIDENCY."""
        self.trial = trial
        self.residency: Residency = RESIDENCY[eviction]
        self.eviction: EvictionPolicy = EVICTION[eviction]
        self.actions: list[Action] = []
        self.replaced: set[ReplicaId] = set()  # those that get a substitute by this plan
        self.besieging: set[ModelId] = set()
        self._held: set[ModelId] = set()

    def start(self, need: Need, spot: Spot, where: Limits, footprint: Footprint) -> Outcome:
        model, gpus = need.model, spot.gpus
        candidates = self.trial.candidates(model, footprint, where, spot)
        left_bytes = min(self.trial.free_gpu(gpu) for gpu in gpus) - footprint.gpu_bytes
        fit = f"{size(footprint.gpu_bytes)} fit on {names(gpus)}, {size(left_bytes)} stay free"
        if footprint != model.footprint:
            fit += f"; its KV cache gets {size(footprint.kv_cache_bytes)} of {size(model.footprint.kv_cache_bytes)}"
        self.trial.start(model, gpus, footprint)
        replaces = need.replaces.id if need.replaces is not None else None
        self.replaced.update([replaces] if replaces is not None else [])
        reason = f"{self._cause(need)}: {fit}."
        self.actions.append(Start(model.id, gpus[0], footprint, reason, candidates, gpus[1:], replaces))
        return Outcome.DONE

    def move(self, move: Move) -> None:
        """Start the substitute; the old one goes once it serves."""
        start = move.start
        self.trial.start(self.trial.models[move.model], move.target, move.footprint)
        self.actions.append(start)

    def wake(self, need: Need, replica: Replica, gpus: tuple[GpuId, ...]) -> Outcome:
        sleeps = names(replica.gpus)
        room = "where there is room for it to wake" if gpus == replica.gpus else f"and wakes on {names(gpus)}"
        reason = f"{self._cause(need)}: {replica.id} sleeps on {sleeps}, {room}."
        self.trial.wake(replica, gpus)
        self.actions.append(Wake(replica.id, replica.model, gpus[0], reason, gpus[1:]))
        return Outcome.DONE

    @property
    def somebody_waits(self) -> bool:
        return bool(self._held)

    def resize(self, resize: Resize) -> None:
        self.trial.resize(self.trial.state.replicas[resize.replica], resize.kv_cache_bytes)
        self.actions.append(resize)

    def hold(self, model: Model, reason: str, no_fit: NoFit | None = None) -> None:
        """One Hold a model is enough, however many of its replicas wait."""
        if model.id not in self._held:
            self._held.add(model.id)
            self.actions.append(Hold(model.id, reason, no_fit))

    def refuse(self, model: Model, no_fit: NoFit) -> Outcome:
        self.actions.append(Refuse(model.id, no_fit.reason, no_fit))
        return Outcome.BLOCKED

    def wait_for_room(self, need: Need, gpus: tuple[GpuId, ...], no_fit: NoFit | None) -> Outcome:
        """Name what leaves ``gpus``; the room is promised by the caller."""
        trial = self.trial
        leaves = sorted(one.model for gpu in gpus for one in trial.on_gpu(gpu) if one.id in trial.going)
        self.hold(need.model, f"{need.model.id} waits for {names(leaves)} to leave {names(gpus)}.", no_fit)
        return Outcome.WAITING

    def wait_to_wake(self, need: Need, replica: Replica, gpus: tuple[GpuId, ...]) -> Outcome:
        """Promise the room that ``replica`` needs to wake once it is asleep and what leaves those GPUs is gone."""
        self.trial.promise_wake(replica, gpus)
        if replica.state is ReplicaState.ASLEEP:
            return self.wait_for_room(need, gpus, None)
        name = need.model.id
        self.hold(need.model, f"{name} waits for {replica.id} to fall asleep on {names(replica.gpus)}; then it wakes.")
        return Outcome.WAITING

    def stop(
        self,
        replica: Replica,
        reason: str,
        evicted_for: ModelId | None = None,
        candidates: tuple[Candidate, ...] = (),
    ) -> None:
        self._retire(replica, WayOut(Way.STOP), reason, evicted_for, candidates)

    def forget(self, replica: Replica) -> None:
        if replica.id not in self.trial.going:
            idle = span(self.trial.now_s - last_use_s(replica))
            self.stop(
                replica, f"{replica.model}, asleep on {replica.gpu} and unused for {idle}, is not kept any longer"
            )

    def expire(self, replica: Replica) -> None:
        out = way_out(replica, self.trial, residency=self.residency)
        model = self.trial.models[replica.model]
        idle = span(self.trial.now_s - last_use_s(replica))
        reason = f"{replica.model} on {replica.gpu} was not used for {idle} (ttl {span(model.ttl_s)})"
        desired = self.trial.desired[replica.model]
        if self.trial.now_s < last_use_s(replica) + model.ttl_s:  # autoscaling does not wait for that
            reason = f"{replica.id} leaves {replica.gpu}: {count(desired.count, 'replica')} will do ({desired.why})"
        self._retire(replica, out, reason, None, ())

    def evict(self, need: Need, cleared: Clearing, footprint: Footprint, no_fit: NoFit | None) -> Outcome:
        candidates = self._candidates(need, cleared.ranked)
        slack_bytes = {part.shelf.gpu.id: part.slack_bytes for part in cleared.parts}
        for part in cleared.parts:
            self._clear(need, part, slack_bytes, candidates)
        if cleared.wakes is not None:
            self.trial.promise_wake(cleared.wakes, cleared.gpus)
        else:
            self.trial.promise(need.model, cleared.gpus, footprint)
        return self.wait_for_room(need, cleared.gpus, no_fit)

    def besiege(self, need: Need, gpu: Gpu, sleeper: Replica | None) -> None:
        """Keep ``gpu`` for ``need`` whatever becomes free there; whoever may go from it goes."""
        trial = self.trial
        needs_bytes = bytes_needed(need, gpu, sleeper) or 0
        may_go = () if trial.resting(gpu.id) else tuple(victims(need, gpu, sleeper, trial))
        shelf = Shelf(gpu, needs_bytes, trial.soon.gpu[gpu.id], sleeper, may_go, trial.now_s)
        part = Eviction(shelf, may_go, 0.0, "for it has waited for too long")
        self._clear(need, part, {gpu.id: max(0, part.slack_bytes)}, ())
        trial.close(need.model, gpu.id)
        self.besieging.add(need.model.id)

    def make_way(self, need: Need, part: Eviction) -> None:
        """For a replica that grows where it is (``packers.growth``)."""
        self._clear(need, part, {part.shelf.gpu.id: part.slack_bytes}, ())

    def bring_back(self, back: Return) -> None:
        """Wake one that nobody asks for yet, or make room for it."""
        replica, shelf = back.sleeper.replica, back.place.shelf
        need = Need(back.sleeper.model, 2, back.why)
        if back.place.victims:
            self._clear(need, back.place, {shelf.gpu.id: back.place.slack_bytes}, ())
            return
        gpus = replica.gpus if shelf.gpu.id in replica.gpus else (shelf.gpu.id,)
        self.trial.wake(replica, gpus)
        reason = f"{replica.model} is brought back before anybody asks for it: {back.why}."
        self.actions.append(Wake(replica.id, replica.model, gpus[0], reason, gpus[1:]))

    def _clear(
        self, need: Need, part: Eviction, slack_bytes: dict[GpuId, int], candidates: tuple[Candidate, ...]
    ) -> None:
        """``slack_bytes``: what of each GPU that is cleared stays free, for what sleeping ones leave behind."""
        if part.victims:
            self.trial.swap(part.shelf.gpu.id)
        # The dearest victim first: it has the first claim on sleeping instead of ending.
        for victim in reversed(part.victims):
            replica = victim.replica
            if replica.id in self.trial.going:  # stopped already: for host RAM, or for another GPU of the group
                continue
            there = [gpu for gpu in replica.gpus if gpu in slack_bytes]
            out = way_out(replica, self.trial, min(slack_bytes[gpu] for gpu in there), self.residency)
            if out.way is not Way.STOP:
                for gpu in there:
                    slack_bytes[gpu] -= replica.footprint.residue_bytes
            used = f"unused for {span(self.trial.now_s - victim.last_use_s)}"
            if victim.harm is Harm.TURN:
                used = f"in use, and it has had its turn of {span(self.trial.now_s - replica.state_since_s)}"
            reason = (
                f"{replica.model} makes room on {part.shelf.gpu.id} for {need.model.id} ({need.why}), which needs "
                f"{size(part.shelf.needs_bytes)} there: {'asleep and ' if victim.asleep else ''}{used}, "
                f"{part.why}"
            )
            self._retire(replica, out, reason, need.model.id, candidates)

    def _retire(
        self,
        replica: Replica,
        out: WayOut,
        reason: str,
        evicted_for: ModelId | None,
        candidates: tuple[Candidate, ...],
    ) -> None:
        for sleeper in out.stops_first:
            idle = span(self.trial.now_s - last_use_s(sleeper))
            why = f"{sleeper.model}, asleep and unused for {idle}, makes room in host RAM for {replica.model} to sleep."
            self.actions.append(Stop(sleeper.id, sleeper.model, sleeper.gpu, why, evicted_for))
        apply(replica, out, self.trial)
        if out.way is Way.SLEEP:
            self.actions.append(Sleep(replica.id, replica.model, replica.gpu, f"{reason}.", evicted_for, candidates))
        elif out.way is Way.STOP:
            asleep = replica.state is ReplicaState.ASLEEP
            note = f"; stopped because {out.why}" if out.why and not asleep else ""
            ends = f"{reason}{note}."
            self.actions.append(Stop(replica.id, replica.model, replica.gpu, ends, evicted_for, candidates))

    def _candidates(self, need: Need, evictions: tuple[Eviction, ...]) -> tuple[Candidate, ...]:
        shown = [Candidate(one.shelf.gpu.id, one.shelf.free_bytes, score=one.score) for one in evictions]
        if len(shown) < CANDIDATES_SHOWN:
            where = self.trial.limits(need.model)
            shown += rejected(need, where, [one.shelf for one in evictions], self.trial)
        return tuple(shown[:CANDIDATES_SHOWN])

    def _cause(self, need: Need) -> str:
        if need.replaces is not None:
            return f"{need.model.id} gets a replica in place of {need.replaces.id} ({need.why})"
        if need.first:
            return f"{need.model.id} has no replica and {need.why}"
        desired = self.trial.desired[need.model.id].count
        return f"{need.model.id} gets replica {need.number} of {count(desired, 'replica')} ({need.why})"
