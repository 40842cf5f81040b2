"""Carries out what was decided: the ledger and the states change, the fleet gets its orders, each decision is noted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from models.catalog.units import format_bytes
from models.control.actions import Actions, Post
from models.control.costs import UNKNOWN_TIER
from models.control.defragging import DefragDesk
from models.control.endings import Endings
from models.control.journal import Journal
from models.control.lifecycle import Event
from models.control.slate import Slate
from models.control.tracked import Tracked, socket_paths
from models.control.work import Work
from models.control.world import World
from packers.ledger import LedgerError
from packers.types import Action, Hold, ModelId, Refuse, ReplicaId, ReplicaState, Resize, Sleep, Start, Stop, Wake

log = logging.getLogger("roundhouse.control")


class Execution:
    """Owned by the loop."""

    def __init__(
        self,
        world: World,
        journal: Journal,
        actions: Actions,
        work: Work,
        slate: Slate,
        endings: Endings,
        defrag: DefragDesk,
        *,
        new_replica_id: Callable[[ModelId], ReplicaId],
        post: Post,
    ) -> None:
        self._world = world
        self._journal = journal
        self._actions = actions
        self._work = work
        self._slate = slate
        self._endings = endings
        self._defrag = defrag
        self._new_replica_id = new_replica_id
        self._post = post

    def carry_out(self, action: Action, now: float) -> None:
        self._world.census.touch(action.model)
        try:
            match action:
                case Start():
                    self._start(action, now)
                case Wake():
                    self._wake(action, now)
                case Sleep() | Stop():
                    to = ReplicaState.ASLEEP if isinstance(action, Sleep) else ReplicaState.DEAD
                    self._endings.drain(self._world.replicas[action.replica], to, action.reason, now)
                    self._journal.plan(action)
                    if action.evicted_for is not None:
                        self._world.swapped[action.gpu] = now
                case Resize():  # no engine resizes, so no model says that it does, and none is asked to
                    log.error("a plan resizes what cannot be resized, and was not carried out: %s", action)
                case Hold():
                    self._journal.hold(action)
                case Refuse():
                    self._refuse(action, now)
        except LedgerError:
            log.exception("a plan did not fit the ledger and was not carried out: %s", action)

    def _start(self, action: Start, now: float) -> None:
        if action.peers:  # no card asks for more than one GPU
            log.error("a plan spans several GPUs, and was not carried out: %s", action)
            return
        entry = self._world.entries[action.model]
        replica = self._new_replica_id(action.model)
        node = next(n for n in self._world.nodes.values() if any(gpu.id == action.gpu for gpu in n.gpus))
        self._world.ledger.reserve(replica, action.model, action.gpu, action.footprint.gpu_bytes)
        http, control = socket_paths(node, replica)
        tracked = Tracked(
            id=replica,
            model=action.model,
            node=node.id,
            gpu=action.gpu,
            footprint=action.footprint,
            endpoint=f"unix:{http}",
            control=control,
            card_hash=entry.card.engine_hash,
            simulated=self._world.is_simulated(action.gpu),
            reason=action.reason,
            state_since_s=now,
            last_used_s=now,
            replaces=action.replaces,
            began_tier=self._world.weights_tier(action.model, node.id) or UNKNOWN_TIER,
            cold=action.model in self._world.suspects,
            cold_since_s=now,
        )
        self._world.replicas[replica] = tracked
        self._work.order(replica, self._actions.start(tracked, entry, self._post))
        self._journal.plan(action, replica)
        self._defrag.began(action, replica, now)

    def _wake(self, action: Wake, now: float) -> None:
        tracked = self._world.replicas[action.replica]
        if action.gpu != tracked.gpu:  # no model says that it wakes anywhere
            log.error("a plan wakes a replica where it does not sleep, and was not carried out: %s", action)
            return
        self._world.ledger.reserve(tracked.id, tracked.model, tracked.gpu, tracked.footprint.gpu_bytes)
        tracked.happens(Event.WAKES, action.reason, now)
        tracked.cold = False
        self._work.order(tracked.id, self._actions.wake(tracked, self._world.entries[action.model], self._post))
        self._journal.plan(action)

    def _refuse(self, action: Refuse, now: float) -> None:
        reason = action.reason
        entry = self._world.entries[action.model]
        judged = self._world.judged(entry)
        if judged.excess_bytes:
            said, held = entry.footprint.gpu_bytes, judged.footprint.gpu_bytes
            reason = f"{reason} Its card says {format_bytes(said)}, but it was measured to hold {format_bytes(held)}."
        if self._world.failures.refused(action.model, reason, now):
            self._journal.plan(replace(action, reason=reason))
            self._slate.dirty = True
        self._world.operator_wakes.pop(action.model, None)
