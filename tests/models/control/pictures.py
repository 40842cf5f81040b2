"""What the pictures of GPUs say when they are put one after the other, and that it is what the ledger says."""

from __future__ import annotations

from collections.abc import Iterable

from models.control.occupancy import phase_of
from models.control.world import World
from models.store.usage import GpuPicture, Phase

Shown = dict[str, dict[str, tuple[int, Phase]]]  # GPU -> replica -> bytes, phase; of GPUs that are there


def replayed(pictures: Iterable[GpuPicture]) -> Shown:
    """As they are in the end. No picture is of an earlier time than the one before it."""
    shown: Shown = {}
    at_us = 0
    for picture in pictures:
        assert picture.at_us >= at_us, "time runs backwards"
        at_us = picture.at_us
        assert sum(one.bytes for one in picture.occupants) <= picture.memory_bytes
        if picture.present:
            shown[picture.gpu] = {one.replica: (one.bytes, one.phase) for one in picture.occupants}
        else:
            assert picture.occupants == ()
            shown.pop(picture.gpu, None)
    return shown


def ledger_of(world: World) -> Shown:
    """What is reserved, and what for."""
    found: Shown = {gpu.id: {} for gpu in world.gpus}
    for entry in world.ledger.entries():
        for gpu in entry.holding.gpus:
            found[gpu][entry.replica] = (entry.gpu_bytes, phase_of(world.replicas[entry.replica]))
    return found
