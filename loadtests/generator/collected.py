"""What all workers saw, where the run is led: in the master, or in the one process there is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from loadtests.generator.worker import Batch
from loadtests.outcome.health import Second, WorkerHealth
from loadtests.outcome.rows import Row


class Parcel(msgspec.Struct):
    """A batch on its way from a worker to the master."""

    rows: list[Row]
    seconds: list[Second]
    health: WorkerHealth | None
    done: bool


def pack(batch: Batch) -> bytes:
    return msgspec.msgpack.encode(Parcel(batch.rows, batch.seconds, batch.health, batch.done))


def unpack(parcel: bytes) -> Batch:
    found = msgspec.msgpack.decode(parcel, type=Parcel)
    return Batch(found.rows, found.seconds, found.health, found.done)


@dataclass(slots=True)
class Collected:
    rows: list[Row] = field(default_factory=list)
    seconds: list[Second] = field(default_factory=list)
    workers: dict[int, WorkerHealth] = field(default_factory=dict)
    marks: list[dict[str, Any]] = field(default_factory=list)
    done: set[int] = field(default_factory=set)

    def take(self, batch: Batch) -> None:
        self.rows += batch.rows
        self.seconds += batch.seconds
        if batch.health is not None:
            self.workers[batch.health.worker] = batch.health
            if batch.done:
                self.done.add(batch.health.worker)
