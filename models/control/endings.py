"""How replicas leave: out of the routes first, to be put to sleep or stopped when they have finished what they have."""

from __future__ import annotations

from collections.abc import Callable

from models.control.actions import Actions, Post
from models.control.journal import Journal
from models.control.lifecycle import Event
from models.control.slate import Slate
from models.control.tracked import Tracked
from models.control.work import Work
from models.control.world import World
from packers.types import ReplicaState, Sleep, Stop

AGAIN_AFTER_S = 1.0  # an engine that could not be told to end is told so again
SHIFT_TIMEOUT_S = 600.0  # for the requests of a replica that moves; any other has the drain timeout of the service


class Endings:
    """Owned by the loop. ``must_end``: there is no time left for what a replica still does."""

    must_end: Callable[[Tracked, float], bool] = staticmethod(lambda tracked, now: False)

    def __init__(
        self, world: World, journal: Journal, actions: Actions, work: Work, slate: Slate, post: Post, timeout_s: float
    ) -> None:
        self._world = world
        self._journal = journal
        self._actions = actions
        self._work = work
        self._slate = slate
        self._post = post
        self._drain_timeout_s = timeout_s

    def retire_outdated(self, now: float) -> None:
        """An engine whose card has changed finishes what it has; also one that was just starting or falling asleep."""
        for tracked in self._world.replicas.values():
            entry = self._world.entries.get(tracked.model)
            if entry is None or entry.card.engine_hash != tracked.card_hash:
                why = "its model was removed from the catalog" if entry is None else "its card changed"
                self.put_out(tracked, ReplicaState.DEAD, why, now)

    def finish_drained(self, now: float) -> None:
        for tracked in self._world.replicas.values():
            if tracked.state is not ReplicaState.DRAINING or tracked.out_of_reach or not self._may_end(tracked, now):
                continue
            if tracked.drain_version > self._world.routes_version:  # gateways have not been told yet
                continue
            timeout_s = SHIFT_TIMEOUT_S if self._is_moving(tracked) else self._drain_timeout_s
            overdue = now - tracked.state_since_s > timeout_s or self.must_end(tracked, now)
            if overdue or self._world.demand.drained(tracked.id, tracked.drain_version):
                tracked.ending, tracked.ending_since_s = True, now
                act = self._actions.sleep if tracked.draining_to is ReplicaState.ASLEEP else self._actions.stop
                self._work.order(tracked.id, act(tracked, self._post))

    def _is_moving(self, tracked: Tracked) -> bool:
        """Its substitute serves already, and nobody waits for its memory: what it has may take its time."""
        others = self._world.of_model(tracked.model)
        if not any(other.replaces == tracked.id and other.state is ReplicaState.READY for other in others):
            return False
        return not any(gpu.cordoned for gpu in self._world.gpus if gpu.id == tracked.gpu)

    def _may_end(self, tracked: Tracked, now: float) -> bool:
        """It was not told to yet, or whoever was to tell it could not reach it."""
        if not tracked.ending:
            return True
        return now - tracked.ending_since_s >= AGAIN_AFTER_S and not self._work.under_way(tracked.id)

    def drain(self, tracked: Tracked, to: ReplicaState, reason: str, now: float) -> None:
        """Take a replica out of the routes; ``finish_drained`` goes on when nothing is in flight on it."""
        if tracked.state in (ReplicaState.READY, ReplicaState.ASLEEP):
            tracked.happens(Event.LEAVES, reason, now)
            tracked.draining_to = to
            tracked.drain_version = self._world.routes_version + 1
            # Gateways are to confirm that number, also where the table is the same: its model may not be in it.
            self._slate.dirty = self._slate.renumber = True
            if to is ReplicaState.ASLEEP:  # its place in host RAM is taken from here on
                self._world.ledger.hold(tracked.as_replica(pinned=False, priority=0))
        elif tracked.state is ReplicaState.DRAINING and to is ReplicaState.DEAD and not tracked.ending:
            tracked.draining_to, tracked.reason = to, reason

    def put_out(self, tracked: Tracked, to: ReplicaState, reason: str, now: float) -> None:
        """It is an operator, or the configuration, that wants it gone: a decision like any other."""
        was = tracked.state
        self.drain(tracked, to, reason, now)
        if was is not ReplicaState.DRAINING and tracked.state is ReplicaState.DRAINING:
            action = Sleep if to is ReplicaState.ASLEEP else Stop
            self._journal.ordered(action(tracked.id, tracked.model, tracked.gpu, reason))
