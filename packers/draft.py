"""A plan in the making: each method enters an action into the trial's ledgers and words its reason."""

from __future__ import annotations

from enum import Enum, auto

from packers.eviction import Eviction, EvictionPolicy
from packers.explain import count, names, size, span
from packers.placement import CANDIDATES_SHOWN, Placement, PlacementPolicy
from packers.retire import Way, WayOut, apply, way_out
from packers.scaling import last_use_s
from packers.shelves import Need, rejected
from packers.trial import Trial
from packers.types import (
    Action,
    Candidate,
    GpuId,
    Hold,
    Model,
    ModelId,
    NoFit,
    Refuse,
    Replica,
    ReplicaState,
    Sleep,
    Start,
    Stop,
    Wake,
)


class Outcome(Enum):
    DONE = auto()  # started or woken
    WAITING = auto()  # held until something that is under way is done
    BLOCKED = auto()  # held or refused; nothing is under way for it


class Draft:
    def __init__(self, trial: Trial, placement: PlacementPolicy, eviction: EvictionPolicy) -> None:
        self.trial = trial
        self.placement = placement
        self.eviction = eviction
        self.actions: list[Action] = []
        self._held: set[ModelId] = set()

    def start(self, need: Need, placed: Placement) -> Outcome:
        model = need.model
        left_bytes = placed.free_bytes - model.footprint.gpu_bytes
        reason = (
            f"{self._cause(need)}: {size(model.footprint.gpu_bytes)} fit on {placed.gpu}, {size(left_bytes)} stay free."
        )
        self.trial.start(model, placed.gpu)
        self.actions.append(Start(model.id, placed.gpu, model.footprint, reason, placed.candidates))
        return Outcome.DONE

    def wake(self, need: Need, replica: Replica) -> Outcome:
        reason = f"{self._cause(need)}: {replica.id} sleeps on {replica.gpu}, where there is room for it to wake."
        self.trial.wake(replica)
        self.actions.append(Wake(replica.id, replica.model, replica.gpu, reason))
        return Outcome.DONE

    def hold(self, model: Model, reason: str, no_fit: NoFit | None = None) -> None:
        """One Hold a model is enough, however many of its replicas wait."""
        if model.id not in self._held:
            self._held.add(model.id)
            self.actions.append(Hold(model.id, reason, no_fit))

    def refuse(self, model: Model, no_fit: NoFit) -> Outcome:
        self.actions.append(Refuse(model.id, no_fit.reason, no_fit))
        return Outcome.BLOCKED

    def wait_for_room(self, need: Need, gpu: GpuId, no_fit: NoFit | None) -> Outcome:
        """Name what leaves ``gpu``; the room is promised by the caller."""
        leaves = sorted(one.model for one in self.trial.on_gpu[gpu] if one.id in self.trial.going)
        self.hold(need.model, f"{need.model.id} waits for {names(leaves)} to leave {gpu}.", no_fit)
        return Outcome.WAITING

    def wait_to_wake(self, need: Need, replica: Replica) -> Outcome:
        """Promise the room that ``replica`` needs to wake once it is asleep and what leaves its GPU is gone."""
        self.trial.promise_wake(replica)
        if replica.state is ReplicaState.ASLEEP:
            return self.wait_for_room(need, replica.gpu, None)
        self.hold(need.model, f"{need.model.id} waits for {replica.id} to fall asleep on {replica.gpu}; then it wakes.")
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
        out = way_out(replica, self.trial)
        model = self.trial.models[replica.model]
        idle = span(self.trial.now_s - last_use_s(replica))
        reason = f"{replica.model} on {replica.gpu} was not used for {idle} (ttl {span(model.ttl_s)})"
        self._retire(replica, out, reason, None, ())

    def evict(self, need: Need, evictions: tuple[Eviction, ...], no_fit: NoFit | None) -> Outcome:
        best = evictions[0]
        gpu = best.shelf.gpu.id
        candidates = self._candidates(need, evictions)
        slack_bytes = best.slack_bytes
        # The dearest victim first: it has the first claim on sleeping instead of ending.
        for victim in reversed(best.victims):
            replica = victim.replica
            if replica.id in self.trial.going:  # stopped already, to make room in host RAM for a dearer one
                continue
            out = way_out(replica, self.trial, slack_bytes)
            if out.way is not Way.STOP:
                slack_bytes -= replica.footprint.residue_bytes
            idle = span(self.trial.now_s - victim.last_use_s)
            reason = (
                f"{replica.model} makes room on {gpu} for {need.model.id} ({need.why}), which needs "
                f"{size(best.shelf.needs_bytes)} there: {'asleep and ' if victim.asleep else ''}unused for {idle}, "
                f"{best.why}"
            )
            self._retire(replica, out, reason, need.model.id, candidates)
        if best.shelf.wakes is not None:
            self.trial.promise_wake(best.shelf.wakes)
        else:
            self.trial.promise(need.model, gpu)
        return self.wait_for_room(need, gpu, no_fit)

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
            shown += rejected(need, [one.shelf for one in evictions], self.trial)
        return tuple(shown[:CANDIDATES_SHOWN])

    def _cause(self, need: Need) -> str:
        if need.first:
            return f"{need.model.id} has no replica and {need.why}"
        desired = self.trial.desired[need.model.id].count
        return f"{need.model.id} gets replica {need.number} of {count(desired, 'replica')} ({need.why})"
