"""The packer's State, kept as the loop's snapshots say: of a large cluster only what changed is told anew."""

from __future__ import annotations

from operator import attrgetter

from packers.ledger import LedgerError
from packers.state import State
from packers.types import Replica, Snapshot


class Mirror:
    """What is decided on ``follow(snapshot)`` is what would be decided on the snapshot alone (goal M1 tests it)."""

    def __init__(self) -> None:
        self._seen: Snapshot | None = None
        self._state = State()

    def follow(self, snapshot: Snapshot) -> State:
        """Raises LedgerError when the snapshot contradicts itself."""
        before, self._seen = self._seen, None  # not to be trusted if this fails half-way
        if before is None or not _same_hardware(before, snapshot):
            self._state = State.of(snapshot)
        else:
            try:
                self._update(before, snapshot)
            except LedgerError:
                self._state = State.of(snapshot)
        self._seen = snapshot
        return self._state

    def _update(self, before: Snapshot, now: Snapshot) -> None:
        state = self._state
        _update_gpus(state, before, now)
        known = {model.id: model for model in before.models}
        for model in now.models:
            old_model = known.pop(model.id, None)
            if old_model is not model and old_model != model:
                state.put_model(model)
        for gone in known:
            state.drop_model(gone)
        there = {replica.id: replica for replica in before.replicas}
        changed = []
        for replica in now.replicas:
            old = there.pop(replica.id, None)
            if old is replica:
                continue
            if old is not None and but_for_use(old) == but_for_use(replica):
                state.set_use(replica.id, replica.in_flight, replica.last_used_s)  # what happens all the time
            else:
                changed.append(replica)
        # One may take what another leaves: all that change go first, then come back as they are now.
        for left in there:
            state.drop_replica(left)
        for replica in changed:
            state.drop_replica(replica.id)
        for replica in changed:
            state.put_replica(replica)


def _update_gpus(state: State, before: Snapshot, now: Snapshot) -> None:
    if before.gpus != now.gpus:
        for old_gpu, gpu in zip(before.gpus, now.gpus, strict=True):
            if old_gpu != gpu:
                state.put_gpu(gpu)
    if before.guarantees != now.guarantees:
        state.put_guarantees(now.guarantees)
    if before.swapped != now.swapped:
        state.put_swapped(now.swapped)


def _same_hardware(one: Snapshot, other: Snapshot) -> bool:
    """The same GPUs in the same places; they may be drained meanwhile."""
    if one.nodes != other.nodes or one.pools != other.pools or len(one.gpus) != len(other.gpus):
        return False
    return one.gpus == other.gpus or all(
        (left.id, left.node, left.memory_bytes) == (right.id, right.node, right.memory_bytes)
        for left, right in zip(one.gpus, other.gpus, strict=True)
    )


but_for_use = attrgetter(*(name for name in Replica.__slots__ if name not in ("in_flight", "last_used_s")))
