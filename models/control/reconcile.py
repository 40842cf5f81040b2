"""The ledger kept true: what replicas were measured to hold, against what they have reserved.

1. What was measured is learned for the next replica of the same revision (``models.control.footprints``).
2. A replica that holds more than it has reserved, by more than the tolerance, is reported: a decision, a log line, and
   what the screens and the metrics show.
3. Its reservation grows where its GPU has the room. Where others may leave, they do (``packers.growth``), and it grows
   as soon as they are gone. Else it is drained itself: the ledger never holds more than there is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from models.catalog.units import format_bytes
from models.control.footprints import Held, exceeds, grown
from models.control.journal import Journal
from models.control.tracked import Tracked
from models.control.world import World
from models.runtimes.protocol import EngineStatus
from packers.decide import Policies
from packers.growth import make_way
from packers.ledger import LedgerError
from packers.types import Footprint, ReplicaState, Sleep

log = logging.getLogger("roundhouse.control")
Drain = Callable[[Tracked, ReplicaState, str, float], None]
SETTLED = (ReplicaState.READY, ReplicaState.ASLEEP)


class Reconciler:
    """Owned by the loop. ``policies``: those in force, which choose who makes room."""

    def __init__(self, world: World, journal: Journal, drain: Drain, policies: Callable[[], Policies]) -> None:
        self._world = world
        self._journal = journal
        self._drain = drain
        self._policies = policies

    def measured(self, tracked: Tracked, status: EngineStatus) -> None:
        """What an engine says of its memory; it is in the state that its replica is known to be in."""
        if status.measured is None or tracked.state not in SETTLED:
            return
        held = Held.of(status.measured, tracked.simulated)
        if tracked.state is ReplicaState.ASLEEP:
            if not tracked.simulated:  # what is left of a process is host RAM there, and on no GPU
                self._asleep(tracked, held.gpu_bytes)
        else:
            self._ready(tracked, held)

    def settle(self, now: float) -> None:
        """Let those grow that have to. To be called in every step, before anything is decided."""
        for tracked in list(self._world.replicas.values()):
            if tracked.owed is None:
                continue
            if tracked.state not in SETTLED:  # it leaves, and what it holds with it
                tracked.owed = None
            elif not self._grow(tracked, tracked.owed):
                self._make_way(tracked, tracked.owed, now)

    def _ready(self, tracked: Tracked, held: Held) -> None:
        tracked.held = held.highest(tracked.held)
        entry = self._world.entries.get(tracked.model)
        if entry is not None and entry.card.engine_hash == tracked.card_hash:
            # Of a simulated GPU nobody knows how little an engine would take of a real one.
            served = not tracked.simulated and (tracked.last_used_s > tracked.ready_since_s or tracked.in_flight > 0)
            self._world.history.footprints.learn(self._world.revision(entry), tracked.id, held, served=served)
        self._compare(
            tracked,
            held.gpu_bytes,
            (tracked.owed or tracked.footprint).gpu_bytes,
            grown(tracked.footprint, tracked.held),
        )

    def _asleep(self, tracked: Tracked, residue_bytes: int) -> None:
        entry = self._world.entries.get(tracked.model)
        if entry is not None and entry.card.engine_hash == tracked.card_hash:
            self._world.history.footprints.learn_residue(self._world.revision(entry), residue_bytes)
        footprint = tracked.owed or tracked.footprint
        self._compare(
            tracked, residue_bytes, footprint.residue_bytes, replace(tracked.footprint, residue_bytes=residue_bytes)
        )

    def _compare(self, tracked: Tracked, held_bytes: int, reserved_bytes: int, corrected: Footprint) -> None:
        if not exceeds(held_bytes, reserved_bytes):
            return
        tracked.owed = corrected
        reserved = format_bytes(reserved_bytes)
        text = f"{tracked.id} holds {format_bytes(held_bytes)} of {tracked.gpu}, {reserved} were reserved"
        log.warning("%s", text)
        self._journal.note(
            "excess",
            tracked,
            text,
            held_bytes=held_bytes,
            reserved_bytes=reserved_bytes,
            excess_bytes=held_bytes - reserved_bytes,
            measured=tracked.measured,
        )

    def _grow(self, tracked: Tracked, owed: Footprint) -> bool:
        asleep = tracked.state is ReplicaState.ASLEEP
        gpu_bytes, host_bytes = (owed.residue_bytes, owed.host_bytes) if asleep else (owed.gpu_bytes, 0)
        try:
            self._world.ledger.reserve(tracked.id, tracked.model, tracked.gpu, gpu_bytes, host_bytes)
        except LedgerError:
            return False
        tracked.footprint, tracked.owed = owed, None
        self._journal.note("excess", tracked, f"the reservation of {tracked.id} has grown to {format_bytes(gpu_bytes)}")
        return True

    def _make_way(self, tracked: Tracked, owed: Footprint, now: float) -> None:
        more_bytes = self._more_bytes(tracked, owed)
        try:
            actions = make_way(self._world.snapshot(now), tracked.id, more_bytes, self._policies())
        except LedgerError:  # a bug: nobody else is to suffer for it
            log.exception("no room can be found for %s", tracked.id)
            actions = None
        if actions is None:
            text = (
                f"it holds {format_bytes(more_bytes)} more than was reserved, and {tracked.gpu} has no room for that: "
                "it is started again where there is"
            )
            self._drain(tracked, ReplicaState.DEAD, text, now)
            tracked.owed = None
            self._journal.note("excess", tracked, f"{tracked.id} is drained: {text}")
            return
        for action in actions:
            to = ReplicaState.ASLEEP if isinstance(action, Sleep) else ReplicaState.DEAD
            self._drain(self._world.replicas[action.replica], to, action.reason, now)  # type: ignore[union-attr]
            self._journal.plan(action)

    def _more_bytes(self, tracked: Tracked, owed: Footprint) -> int:
        if tracked.state is ReplicaState.ASLEEP:
            return owed.residue_bytes - tracked.footprint.residue_bytes
        return owed.gpu_bytes - tracked.footprint.gpu_bytes
