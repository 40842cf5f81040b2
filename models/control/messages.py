"""What arrives in the controller's inbox. Only the loop acts on them."""

from __future__ import annotations

from dataclasses import dataclass

from models.catalog.service import ServiceConfig
from models.fleet.protocol import GpuBack, GpuLost, NodeAway, NodeJoined, NodeLeaving, NodeView
from models.runtimes.protocol import EngineStatus, Fault
from models.store.records import Command, DemandReport
from packers.types import ModelId, NodeId, ReplicaId


@dataclass(frozen=True, slots=True)
class Reported:
    report: DemandReport


@dataclass(frozen=True, slots=True)
class Ordered:
    command: Command


@dataclass(frozen=True, slots=True)
class BecameReady:
    """``queued_s``: how long it waited for other loads on its GPU."""

    replica: ReplicaId
    status: EngineStatus
    queued_s: float = 0.0


@dataclass(frozen=True, slots=True)
class FellAsleep:
    replica: ReplicaId
    status: EngineStatus


@dataclass(frozen=True, slots=True)
class Stopped:
    replica: ReplicaId


@dataclass(frozen=True, slots=True)
class CouldNotStart:
    """``message``: one clear sentence, fit for callers. ``content``: what its source held, when an engine looked."""

    replica: ReplicaId
    message: str
    fault: Fault = "other"
    content: str | None = None


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Its engine computed other tokens than it should, and is gone; it is being started again from the source."""

    replica: ReplicaId
    message: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The engine ended without being asked to. ``with_node``: and nothing on its node will ever answer."""

    replica: ReplicaId
    reason: str
    fault: Fault = "other"
    with_node: bool = False


@dataclass(frozen=True, slots=True)
class Fetching:
    """``text``: how far the download is that a start of this model waits for."""

    model: ModelId
    text: str


@dataclass(frozen=True, slots=True)
class Looked:
    """What was measured on the nodes."""

    views: dict[NodeId, NodeView]


@dataclass(frozen=True, slots=True)
class ContentChanged:
    """The files of this model are others than those with which its start failed."""

    model: ModelId


@dataclass(frozen=True, slots=True)
class CatalogChanged:
    config: ServiceConfig


@dataclass(frozen=True, slots=True)
class CatalogRejected:
    """``error``: why the changed configuration was not taken; the last good one stays."""

    error: str


@dataclass(frozen=True, slots=True)
class NodeGone:
    """A node was given up, with all that was on it."""

    node: NodeId
    reason: str


HappenedToNodes = NodeJoined | NodeAway | NodeLeaving | NodeGone | GpuLost | GpuBack
Happened = BecameReady | FellAsleep | Stopped | CouldNotStart | Quarantined | Lost | Fetching | Looked  # to replicas
Message = Happened | HappenedToNodes | Reported | Ordered | ContentChanged | CatalogChanged | CatalogRejected
