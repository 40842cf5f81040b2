"""The shapes of the admin API's answers. Lists are under ``data``; sizes are bytes, times Unix seconds."""

from __future__ import annotations

import msgspec

from models.store.records import (
    GpuRecord,
    ModelRecord,
    ReplicaRecord,
    Reservation,
)


class GpuView(GpuRecord, frozen=True):
    replicas: tuple[str, ...] = ()  # those that hold memory on it


class GpuList(msgspec.Struct, kw_only=True):
    object: str = "list"
    simulated: bool
    data: tuple[GpuView, ...]


class ModelView(ModelRecord, frozen=True):
    """A catalog entry with what goes on now.

    ``tier``: gpu or host, the best that any replica is on; else where the weights are: page_cache, disk or remote.
    ``path``, ``weights``: how the engines run (fast, plain) and hold their weights (mapped, packed, copied ...), as
    they say themselves; several where replicas differ. ``memory``: what the running replicas hold, by kind.
    """

    tier: str = "disk"
    path: str = ""
    weights: str = ""
    memory: dict[str, int] = msgspec.field(default_factory=dict)
    replicas: tuple[str, ...] = ()
    in_flight: int = 0
    held: int = 0
    last_request_unix_s: float = 0.0


class ModelViewList(msgspec.Struct, kw_only=True):
    object: str = "list"
    simulated: bool
    data: tuple[ModelView, ...]


class ModelDetail(ModelView, frozen=True):
    simulated: bool = False
    replica_records: tuple[ReplicaRecord, ...] = ()


class ReplicaList(msgspec.Struct, kw_only=True):
    object: str = "list"
    simulated: bool = False
    data: tuple[ReplicaRecord, ...]


class GpuLedger(msgspec.Struct, kw_only=True):
    gpu: str
    node: str
    simulated: bool
    capacity_bytes: int
    reserved_bytes: int
    free_bytes: int
    entries: tuple[Reservation, ...]


class HostLedger(msgspec.Struct, kw_only=True):
    """Host RAM that sleeping replicas of a node hold."""

    node: str
    capacity_bytes: int
    reserved_bytes: int
    free_bytes: int
    entries: tuple[Reservation, ...]


class Ledger(msgspec.Struct, kw_only=True):
    seq: int
    simulated: bool
    gpus: tuple[GpuLedger, ...]
    nodes: tuple[HostLedger, ...]


class ControllerStatus(msgspec.Struct, kw_only=True):
    pid: int
    seq: int
    updated_unix_s: float
    age_s: float
    alive: bool
    routes_version: int


class GatewayStatus(msgspec.Struct, kw_only=True):
    """One worker. ``number``: its place among those of this port; its successor has the same. ``problem``: what keeps
    it from calling some replicas; empty when nothing does."""

    worker: str
    number: int = 0
    pid: int
    uptime_s: float
    routes_version: int
    resident_bytes: int = 0
    problem: str = ""


class Status(msgspec.Struct, kw_only=True):
    """``controller`` is null until one has written its state. ``replicas``: how many are in each state.

    ``problems``: what operators should see to, each with its cure. ``gateway``: the worker that answers; ``workers``:
    all that do, of ``workers_wanted``.
    """

    version: str
    simulated: bool
    gateway: GatewayStatus
    workers: tuple[GatewayStatus, ...] = ()
    workers_wanted: int = 1
    controller: ControllerStatus | None
    nodes: int
    gpus: int
    gpu_memory_bytes: int
    gpu_reserved_bytes: int
    models: int
    replicas: dict[str, int]
    in_flight: int
    held: int
    config_error: str | None
    problems: tuple[str, ...] = ()
    out_of_service: tuple[str, ...] = ()  # nodes and GPUs that operators have closed, each with how to open it


DOCUMENTS = (
    GpuList,
    ModelViewList,
    ModelDetail,
    ReplicaList,
    Ledger,
    Status,
)
