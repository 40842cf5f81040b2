"""What arrives in the controller's inbox. Only the loop acts on them."""

from __future__ import annotations

from dataclasses import dataclass

from models.catalog.service import ServiceConfig
from models.runtimes.protocol import EngineStatus
from models.store.records import Command, DemandReport
from packers.types import ReplicaId


@dataclass(frozen=True, slots=True)
class Reported:
    report: DemandReport


@dataclass(frozen=True, slots=True)
class Ordered:
    command: Command


@dataclass(frozen=True, slots=True)
class BecameReady:
    replica: ReplicaId
    status: EngineStatus


@dataclass(frozen=True, slots=True)
class FellAsleep:
    replica: ReplicaId
    status: EngineStatus


@dataclass(frozen=True, slots=True)
class Stopped:
    replica: ReplicaId


@dataclass(frozen=True, slots=True)
class CouldNotStart:
    """``message``: one clear sentence, fit for callers."""

    replica: ReplicaId
    message: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The engine ended without being asked to."""

    replica: ReplicaId
    reason: str


@dataclass(frozen=True, slots=True)
class CatalogChanged:
    config: ServiceConfig


@dataclass(frozen=True, slots=True)
class CatalogRejected:
    """``error``: why the changed configuration was not taken; the last good one stays."""

    error: str


Message = (
    Reported | Ordered | BecameReady | FellAsleep | Stopped | CouldNotStart | Lost | CatalogChanged | CatalogRejected
)
