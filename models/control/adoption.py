"""Engines found alive that nobody follows: kept where they have a place in this world, else stopped.

The memory of both is reserved from the first moment: nothing is placed where one that is being stopped still is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

import msgspec

from models.control.catalog import Entry
from models.control.costs import UNKNOWN_TIER, cost_name
from models.control.journal import Journal
from models.control.tracked import Tracked
from models.control.world import World
from models.fleet.tag import Tag
from models.runtimes.protocol import EngineStatus
from models.store.records import ReplicaRecord
from packers.ledger import LedgerError
from packers.types import ModelId, NodeId, ReplicaId, ReplicaState

log = logging.getLogger("roundhouse.control")
AS_FOUND = {"asleep": ReplicaState.ASLEEP, "ready": ReplicaState.READY}  # any other is being started
COMING = (ReplicaState.STARTING, ReplicaState.READY)


class Adopter:
    """Owned by the loop. ``adopt``, ``put_down``: order it of the fleet."""

    def __init__(
        self,
        world: World,
        journal: Journal,
        *,
        adopt: Callable[[Tracked, EngineStatus], None],
        put_down: Callable[[ReplicaId], None],
    ) -> None:
        self._world = world
        self._journal = journal
        self._adopt = adopt
        self._order_down = put_down

    def take_over(
        self,
        node: NodeId,
        found: Iterable[EngineStatus],
        now: float,
        *,
        records: Mapping[str, ReplicaRecord],
        spare: Callable[[EngineStatus], bool] = lambda status: False,
    ) -> set[ReplicaId]:
        """Those that were adopted. ``records``: what an earlier controller knew of them. ``spare``: has no place."""
        adopted: set[ReplicaId] = set()
        for status in sorted(found, key=_best_first):
            replica = ReplicaId(status.order.replica_id)
            why = self._unwanted(status, spare)
            tracked = self._reserved(node, status, records.get(replica), now, wanted=not why)
            if tracked is not None and not why:
                adopted.add(replica)
                self._adopt(tracked, status)
            else:
                self._put_down(replica, tracked, why or "its memory is reserved for others", now)
        return adopted

    def _unwanted(self, status: EngineStatus, spare: Callable[[EngineStatus], bool]) -> str:
        """Why it has no place in this world; "" where it has."""
        entry = self._entry(status)
        tag = _tag(status)
        if entry is None:
            return "its model is not in the catalog"
        if tag is None or entry.card.engine_hash != tag.card_hash:
            return "the card of its model has changed"
        if status.state == "failed":
            return "it has failed"
        if spare(status):
            return f"{entry.id} has as many replicas as it may have: its place was taken meanwhile"
        return ""

    def _put_down(self, replica: ReplicaId, tracked: Tracked | None, why: str, now: float) -> None:
        log.warning("engine %s is stopped: %s", replica, why)
        if tracked is not None:
            tracked.put_down(why, now)
            self._world.replicas[replica] = tracked
            self._journal.note("unwanted", tracked, f"{replica} was found and is stopped: {why}")
        self._order_down(replica)

    def _reserved(
        self, node: NodeId, status: EngineStatus, record: ReplicaRecord | None, now: float, *, wanted: bool
    ) -> Tracked | None:
        """The replica with its memory reserved, or None where that is not known or not free."""
        world, order, tag = self._world, status.order, _tag(status)
        if tag is None:
            return None
        footprint, asleep = tag.footprint, status.state == "asleep"
        gpu_bytes, host_bytes = (footprint.residue_bytes, footprint.host_bytes) if asleep else (footprint.gpu_bytes, 0)
        replica, entry = ReplicaId(order.replica_id), self._entry(status)
        try:
            world.ledger.reserve(replica, ModelId(order.model_id), tag.gpu, gpu_bytes, host_bytes)
        except LedgerError as problem:
            log.warning("engine %s cannot be kept: %s", replica, problem)
            return None
        tracked = Tracked(
            id=replica,
            model=entry.id if entry is not None else ModelId(order.model_id),
            node=node,
            gpu=tag.gpu,
            footprint=footprint,
            endpoint=f"unix:{order.http_path}",
            control=order.control_path,
            card_hash=tag.card_hash,
            simulated=world.is_simulated(tag.gpu),
            state=AS_FOUND.get(status.state, ReplicaState.STARTING),
            reason="re-adopted",
            adopted=True,
            state_since_s=record.state_since_unix_s if record else now,
            last_used_s=record.last_used_unix_s if record else now,
            replaces=ReplicaId(record.replaces) if record and record.replaces else None,
            decision=record.decision if record else "",
        )
        tracked.ready_since_s = tracked.state_since_s
        tracked.cold = order.cold
        tracked.learn(status)
        if wanted and tracked.start_s is not None and not tracked.cold:  # better than nothing, where nothing is known
            world.history.costs.recall({tracked.model: {cost_name("start", UNKNOWN_TIER): (tracked.start_s,)}})
        return tracked

    def _entry(self, status: EngineStatus) -> Entry | None:
        return self._world.entries.get(ModelId(status.order.model_id))


def _best_first(status: EngineStatus) -> tuple[int, str]:
    """Where there is no place for all, those that serve stay."""
    return ("ready", "asleep", "loading", "failed").index(status.state), status.order.replica_id


def _tag(status: EngineStatus) -> Tag | None:
    try:
        return Tag.decode(status.order.tag)
    except msgspec.MsgspecError:
        return None
