"""What becomes of replicas, as the fleet reports it: ready, asleep, failed, quarantined, lost, gone."""

from __future__ import annotations

import logging
from collections.abc import Callable

from models.control.footprints import grown
from models.control.journal import Journal
from models.control.lifecycle import Event
from models.control.messages import (
    BecameReady,
    CouldNotStart,
    FellAsleep,
    Fetching,
    Happened,
    Looked,
    Lost,
    Quarantined,
    Stopped,
)
from models.control.reconcile import Reconciler
from models.control.tracked import Tracked
from models.control.world import World
from models.fleet.protocol import NodeView
from models.runtimes.protocol import EngineStatus, Fault
from packers.types import ModelId, NodeId, ReplicaId, ReplicaState

log = logging.getLogger("roundhouse.control")
# What an engine says of its state -> what its replica is in when that is news about its memory.
MEASURED_IN = {"ready": ReplicaState.READY, "asleep": ReplicaState.ASLEEP}


class ReplicaDesk:
    """Owned by the loop."""

    def __init__(self, world: World, journal: Journal, reconciler: Reconciler, clock: Callable[[], float]) -> None:
        self._world = world
        self._journal = journal
        self._reconciler = reconciler
        self._clock = clock

    def take(self, message: Happened, now: float) -> bool:
        """True when what is written down has to be written anew, routes included."""
        match message:
            case BecameReady(replica, status, queued_s):
                self._became_ready(replica, status, queued_s, now)
            case FellAsleep(replica, status):
                self._fell_asleep(replica, status, now)
            case Stopped(replica):
                self._stopped(replica, now)
            case CouldNotStart():
                self._could_not_start(message, now)
            case Quarantined(replica, text):
                self._quarantined(replica, text, now)
            case Lost():
                self._lost(message, now)
            case Fetching(model, text):
                for tracked in self._world.of_model(model):
                    if tracked.state is ReplicaState.STARTING:
                        tracked.reason = text
            case Looked(views):
                return self._looked(views)
        return True

    def _became_ready(self, replica: ReplicaId, status: EngineStatus, queued_s: float, now: float) -> None:
        tracked = self._world.replicas.get(replica)
        if tracked is None:  # it was given up meanwhile
            return
        tracked.learn(status)
        if tracked.state is ReplicaState.STARTING:
            self._begin_to_serve(tracked, queued_s, now)
        self._reconciler.measured(tracked, status)

    def _begin_to_serve(self, tracked: Tracked, queued_s: float, now: float) -> None:
        began_s = tracked.cold_since_s if tracked.cold else tracked.state_since_s
        took_s, whole_s = max(0.0, now - began_s - queued_s), max(0.0, now - tracked.state_since_s)
        tracked.happens(Event.SERVES, f"ready after {now - tracked.state_since_s:.2f} s", now)
        tracked.last_used_s = tracked.ready_since_s = now
        if not tracked.adopted:
            self._measure_start(tracked, took_s)
        if tracked.cold:
            self._world.suspects.discard(tracked.model)
        self._world.failures.served(tracked.model, tracked.gpu)
        self._world.operator_wakes.pop(tracked.model, None)
        self._journal.outcome(
            "ready", tracked, tracked.reason, whole_s, start_s=round(took_s, 4), queued_s=round(queued_s, 4)
        )

    def _measure_start(self, tracked: Tracked, took_s: float) -> None:
        took = self._world.history.took
        if tracked.cold:
            took(tracked.model, "cold_start", tracked.began_tier, took_s)
        elif tracked.woke:
            took(tracked.model, "wake", "host", took_s)
        else:
            took(tracked.model, "start", tracked.began_tier, took_s)

    def _fell_asleep(self, replica: ReplicaId, status: EngineStatus, now: float) -> None:
        tracked = self._world.replicas.get(replica)
        if tracked is None:
            return
        tracked.learn(status)
        if tracked.state is not ReplicaState.DRAINING:
            return
        # What it was seen to hold is what it will take when it wakes.
        footprint = tracked.footprint = grown(tracked.footprint, tracked.held)
        self._world.ledger.reserve(
            tracked.id, tracked.model, tracked.gpu, footprint.residue_bytes, footprint.host_bytes
        )
        took_s = max(0.0, now - tracked.ending_since_s)
        drained_s = round(max(0.0, tracked.ending_since_s - tracked.state_since_s), 4)
        self._world.history.took(tracked.model, "sleep", "gpu", took_s)
        tracked.happens(Event.FELL_ASLEEP, tracked.reason, now)
        self._journal.outcome("asleep", tracked, tracked.reason, took_s, drained_s=drained_s)
        self._reconciler.measured(tracked, status)

    def _stopped(self, replica: ReplicaId, now: float) -> None:
        tracked = self._world.replicas.get(replica)
        if tracked is not None and tracked.ending:
            tier = "host" if tracked.was_asleep else "gpu"
            took_s = max(0.0, now - tracked.ending_since_s)
            drained_s = round(max(0.0, tracked.ending_since_s - tracked.state_since_s), 4)
            self._world.history.took(tracked.model, "stop", tier, took_s)
            self._journal.outcome("stopped", tracked, tracked.reason, took_s, drained_s=drained_s)
        self.gone(replica, "stopped")

    def _could_not_start(self, news: CouldNotStart, now: float) -> None:
        tracked = self._world.replicas.get(news.replica)
        if tracked is None:
            return
        blameless = tracked.out_of_reach or tracked.ending  # it is its node's doing, or it was given up
        self.gone(news.replica, news.message)
        text, fault = tracked.lost_reason or news.message, news.fault
        if blameless:  # no reason to wait before it is started elsewhere
            self._journal.outcome("failed", tracked, text, fault=fault)
            return
        failures, elsewhere = self._world.failures, self._elsewhere(tracked, fault, now)
        failure = failures.failed(tracked.model, text, now, fault=fault, content=news.content, elsewhere=elsewhere)
        if failures.told(tracked.model) is not None:
            self._world.operator_wakes.pop(tracked.model, None)
        wait = {} if failure.permanent else {"retry_in_s": round(failure.retry_at_unix_s - now, 3)}
        self._journal.outcome("failed", tracked, text, fault=fault, **wait)

    def _elsewhere(self, tracked: Tracked, fault: Fault, now: float) -> bool:
        """Note where it failed; whether there is a GPU that it could be on and where it was not tried yet."""
        world, entry = self._world, self._world.entries.get(tracked.model)
        here = next((gpu for gpu in world.gpus if gpu.id == tracked.gpu), None)
        if here is None or entry is None:
            return False
        world.failures.failed_on(tracked.model, here, now, fault)
        avoided = world.failures.avoided(tracked.model, world.gpus, now)
        least_bytes = world.judged(entry).footprint.gpu_min_bytes
        return any(gpu.id not in avoided and not gpu.shut and gpu.memory_bytes >= least_bytes for gpu in world.gpus)

    def settle(self, now: float) -> bool:
        """Failures that callers hear of only now, for no other place was tried; True when there are any."""
        told = self._world.failures.tell(now, self._is_starting)
        for model in told:
            self._world.operator_wakes.pop(model, None)
            self._world.census.touch(model)
        return bool(told)

    def _is_starting(self, model: ModelId) -> bool:
        return any(tracked.state is ReplicaState.STARTING for tracked in self._world.of_model(model))

    def _quarantined(self, replica: ReplicaId, text: str, now: float) -> None:
        """Its process is gone; what held the place of it is kept for the same replica, started from the source."""
        tracked = self._world.replicas.get(replica)
        if tracked is None:
            return
        after = "its wake" if tracked.woke else "its start"
        tracked.cold, tracked.cold_since_s, tracked.lost_reason = True, now, ""
        tracked.pid, tracked.measured, tracked.detail = None, None, {}
        tracked.began_tier = self._world.weights_tier(tracked.model, tracked.node) or tracked.began_tier
        self._world.suspects.add(tracked.model)
        self._world.history.meters.quarantine(tracked.model)
        why = f"{replica} failed its canary after {after} and is started from its source again: {text}"
        log.warning("%s", why)
        self._journal.note("quarantine", tracked, why)

    def _lost(self, news: Lost, now: float) -> None:
        replica, reason, fault = news.replica, news.reason, news.fault
        tracked = self._world.replicas.get(replica)
        if tracked is None:
            return
        if tracked.state is ReplicaState.STARTING and not tracked.adopted and not news.with_node:
            tracked.lost_reason = reason  # whoever starts it hears of it, too, and sees to the rest
            return
        served, ready_for_s = tracked.state is ReplicaState.READY, now - tracked.ready_since_s
        self.gone(replica, reason)
        self._journal.outcome("died", tracked, f"{replica} is gone: {reason}", fault=fault)
        self._world.history.meters.lose(tracked.model)
        if served and not news.with_node:
            failure = self._world.failures.crashed(tracked.model, reason, now, ready_for_s=ready_for_s, fault=fault)
            if failure is not None:
                self._journal.note("failed", tracked, failure.message, fault=fault)

    def _looked(self, views: dict[NodeId, NodeView]) -> bool:
        """What the engines hold now; True when routes have to be written anew."""
        for view in views.values():
            for status in view.engines:
                tracked = self._world.replicas.get(ReplicaId(status.order.replica_id))
                if tracked is not None and tracked.state is MEASURED_IN.get(status.state):
                    tracked.learn(status)
                    self._reconciler.measured(tracked, status)
        return self._world.saw(views)

    def gone(self, replica: ReplicaId, reason: str) -> Tracked | None:
        """The process has ended: only now is its memory free."""
        tracked: Tracked | None = self._world.replicas.pop(replica, None)
        if tracked is not None:
            tracked.happens(Event.GONE, reason, self._clock())
            self._world.ledger.release(replica)
            for other in self._world.of_model(tracked.model):
                if other.replaces == replica:
                    other.replaces = None
        return tracked
