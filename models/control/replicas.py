"""What becomes of replicas, as the fleet reports it: ready, asleep, failed, quarantined, lost, gone."""

from __future__ import annotations

import logging
from collections.abc import Callable

from models.control.footprints import grown
from models.control.journal import Journal
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
from models.runtimes.protocol import EngineStatus
from packers.types import NodeId, ReplicaId, ReplicaState

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
        took_s = max(0.0, now - began_s - queued_s)
        tracked.move(ReplicaState.READY, f"ready after {now - tracked.state_since_s:.2f} s", now)
        tracked.last_used_s = tracked.ready_since_s = now
        if not tracked.adopted:
            self._measure_start(tracked, took_s)
        if tracked.cold:
            self._world.suspects.discard(tracked.model)
        self._world.failures.served(tracked.model)
        self._world.operator_wakes.pop(tracked.model, None)
        self._journal.note("ready", tracked, tracked.reason, start_s=round(took_s, 4))

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
        self._world.history.took(tracked.model, "sleep", "gpu", max(0.0, now - tracked.ending_since_s))
        tracked.move(ReplicaState.ASLEEP, tracked.reason, now)
        self._reconciler.measured(tracked, status)

    def _stopped(self, replica: ReplicaId, now: float) -> None:
        tracked = self._world.replicas.get(replica)
        if tracked is not None and tracked.ending:
            tier = "host" if tracked.was_asleep else "gpu"
            self._world.history.took(tracked.model, "stop", tier, max(0.0, now - tracked.ending_since_s))
        self.gone(replica, "stopped")

    def _could_not_start(self, news: CouldNotStart, now: float) -> None:
        tracked = self.gone(news.replica, news.message)
        if tracked is None:
            return
        text, fault = tracked.lost_reason or news.message, news.fault
        failure = self._world.failures.failed(tracked.model, text, now, fault=fault, content=news.content)
        self._world.operator_wakes.pop(tracked.model, None)
        wait = {} if failure.permanent else {"retry_in_s": round(failure.retry_at_unix_s - now, 3)}
        self._journal.note("failed", tracked, text, fault=fault, **wait)

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
        self._journal.note("died", tracked, f"{replica} is gone: {reason}", fault=fault)
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
        tracked = self._world.replicas.pop(replica, None)
        if tracked is not None:
            tracked.move(ReplicaState.DEAD, reason, self._clock())
            self._world.ledger.release(replica)
            for other in self._world.of_model(tracked.model):
                if other.replaces == replica:
                    other.replaces = None
        return tracked
