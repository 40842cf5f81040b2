"""What is on each GPU over time, in pictures that GPU seconds are counted from (``models.store.usage``).

A GPU's picture goes out with the state when its occupants, the memory reserved for them or their phases have changed;
all of them do after a controller has begun, and after the store has lost what it held. What engines are measured to
hold makes no picture: reservations do, as they are in the ledger. A GPU that is lost or gone has a last one that says
so, and so has each when the service is stopped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from models.control.tracked import Tracked
from models.store.usage import GpuPicture, Occupant, Phase
from packers.ledger import Ledger
from packers.types import Gpu, GpuId, ModelId, ReplicaId, ReplicaState

if TYPE_CHECKING:
    from models.control.catalog import Entry
    from models.control.census import Replicas
    from models.store.records import GpuRecord


class _Seen(NamedTuple):
    """One replica, as of its ``version``. ``occupant``: None while it has nothing reserved."""

    tracked: Tracked
    version: int
    gpus: tuple[GpuId, ...] = ()
    occupant: Occupant | None = None


class Occupancy:
    """Owned by the loop."""

    def __init__(self) -> None:
        self._pending: list[GpuPicture] = []
        self._drawn: dict[GpuId, GpuPicture] = {}  # the last picture of each GPU that is there
        self._replicas: dict[ReplicaId, _Seen] = {}
        self._gpus: Sequence[Gpu] | None = None
        self._entries: Mapping[ModelId, Entry] | None = None
        self._closed = False

    @property
    def pending(self) -> tuple[GpuPicture, ...]:
        """Pictures that are not in the store yet, in order."""
        return tuple(self._pending)

    def look(
        self,
        gpus: Sequence[Gpu],
        replicas: Replicas,
        ledger: Ledger,
        entries: Mapping[ModelId, Entry],
        now: float,
    ) -> None:
        """Draw the GPUs that are not as they were. ``gpus``, ``entries``: the same objects while they are the same."""
        gpus = () if self._closed else gpus
        changed = self._look_at_replicas(replicas, ledger, entries)
        if gpus is not self._gpus:
            self._gpus, begins = gpus, self._gpus is None
            changed |= {gpu.id for gpu in gpus if begins or not _is(self._drawn.get(gpu.id), gpu)}
            changed |= self._drawn.keys() - {gpu.id for gpu in gpus}
        if changed:
            self._draw(changed, {gpu.id: gpu for gpu in gpus}, micros(now))

    def written(self) -> None:
        """All that was pending is in the store."""
        self._pending.clear()

    def rewrite(self, now: float) -> None:
        """The store has lost what it held: all GPUs as they are go out, too."""
        at_us = micros(now)
        self._pending += [msgspec.structs.replace(picture, at_us=at_us) for picture in self._drawn.values()]

    def recall(self, before: Iterable[GpuRecord]) -> None:
        """GPUs that an earlier controller had. Those that are not there any more are told to be gone."""
        for gpu in before:
            if not gpu.lost:
                self._drawn.setdefault(GpuId(gpu.id), _recorded(gpu))

    def was_off(self, since_s: float) -> None:
        """The machine was off, and all engines with it: since then no GPU's time counts, until it is drawn again."""
        self._pending += [_gone(picture, micros(since_s)) for picture in self._drawn.values()]

    def close(self) -> None:
        """The service is stopped: the GPUs are nobody's from now on."""
        self._closed = True

    def _look_at_replicas(self, replicas: Replicas, ledger: Ledger, entries: Mapping[ModelId, Entry]) -> set[GpuId]:
        """The GPUs on which one has changed. What a replica reserves only changes where it changes itself."""
        before, after, changed = self._replicas, dict[ReplicaId, _Seen](), set[GpuId]()
        if entries is not self._entries:  # owners may be others
            before, self._entries = {name: seen._replace(version=-1) for name, seen in before.items()}, entries
        for tracked in replicas.by_id:
            name = tracked.id
            seen = before.get(name)
            if seen is None or seen.version != tracked.version or seen.tracked is not tracked:
                found = _look_at(tracked, ledger, entries, seen)
                if seen is None or seen.occupant != found.occupant or seen.gpus != found.gpus:
                    changed.update(found.gpus, seen.gpus if seen is not None else ())
                seen = found
            after[name] = seen
        for gone in before.keys() - after.keys():
            changed.update(before[gone].gpus)
        self._replicas = after
        return changed

    def _draw(self, changed: set[GpuId], gpus: Mapping[GpuId, Gpu], at_us: int) -> None:
        occupants: dict[GpuId, list[Occupant]] = {name: [] for name in changed}
        for seen in self._replicas.values():
            for name in seen.gpus:
                if name in changed and seen.occupant is not None:
                    occupants[name].append(seen.occupant)
        for name in sorted(changed):
            before = self._drawn.pop(name, None)
            if (gpu := gpus.get(name)) is not None:
                self._drawn[name] = picture = _picture(gpu, tuple(occupants[name]), at_us)
                self._pending.append(picture)
            elif before is not None:
                self._pending.append(_gone(before, at_us))


def micros(time_s: float) -> int:
    """Whole microseconds, rounded down, so that later times never become earlier ones."""
    return math.floor(time_s * 1e6)


def phase_of(tracked: Tracked) -> Phase:
    """One that is on its way out serves until what it had is done."""
    match tracked.state:
        case ReplicaState.STARTING:
            return Phase.STARTING
        case ReplicaState.ASLEEP:
            return Phase.ASLEEP
        case ReplicaState.DRAINING if tracked.ending or tracked.was_asleep:
            return Phase.STOPPING
        case _:
            return Phase.SERVING


def _look_at(tracked: Tracked, ledger: Ledger, entries: Mapping[ModelId, Entry], before: _Seen | None) -> _Seen:
    held = ledger.get(tracked.id)
    if held is None:
        return _Seen(tracked, tracked.version)
    entry, known = entries.get(tracked.model), before.occupant if before is not None else None
    # A model that has left the catalog is whose it was.
    owner = entry.card.owned_by if entry is not None else known.owner if known is not None else ""
    occupant = Occupant(
        replica=tracked.id, model=tracked.model, owner=owner, bytes=held.gpu_bytes, phase=phase_of(tracked)
    )
    return _Seen(tracked, tracked.version, (held.gpu, *held.peers), occupant)


def _picture(gpu: Gpu, occupants: tuple[Occupant, ...], at_us: int) -> GpuPicture:
    return GpuPicture(
        at_us=at_us,
        gpu=gpu.id,
        node=gpu.node,
        pool=gpu.pool,
        memory_bytes=gpu.memory_bytes,
        simulated=gpu.simulated,
        present=True,
        occupants=occupants,
    )


def _gone(picture: GpuPicture, at_us: int) -> GpuPicture:
    return msgspec.structs.replace(picture, at_us=at_us, present=False, occupants=())


def _is(picture: GpuPicture | None, gpu: Gpu) -> bool:
    """Whether the picture is of this GPU as it is."""
    return picture is not None and (picture.node, picture.pool, picture.memory_bytes, picture.simulated) == (
        gpu.node,
        gpu.pool,
        gpu.memory_bytes,
        gpu.simulated,
    )


def _recorded(gpu: GpuRecord) -> GpuPicture:
    return GpuPicture(
        at_us=0,
        gpu=gpu.id,
        node=gpu.node,
        pool=gpu.pool,
        memory_bytes=gpu.memory_bytes,
        simulated=gpu.simulated,
        present=True,
    )
