"""The admin API's answers, built purely from the controller's records and the workers' reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.admin_documents import (
    ControllerStatus,
    GatewayStatus,
    GpuLedger,
    GpuList,
    GpuView,
    HostLedger,
    Ledger,
    ModelDetail,
    ModelView,
    ModelViewList,
    ReplicaList,
    Status,
)
from models.store.age import age_s as written_s_ago
from models.store.records import FleetRecord, ModelDemand, ModelRecord, ReplicaRecord

CONTROLLER_SILENT_S = 5.0  # it writes at least once a second


def gpu_list(fleet: FleetRecord) -> GpuList:
    views = tuple(
        GpuView(
            **msgspec.structs.asdict(gpu),
            replicas=tuple(entry.replica_id for entry in fleet.ledger if entry.gpu == gpu.id and entry.gpu_bytes),
        )
        for gpu in sorted(fleet.gpus, key=lambda gpu: (gpu.node, gpu.index))
    )
    return GpuList(simulated=simulated(fleet), data=views)


def model_list(
    catalog: Iterable[ModelRecord], fleet: FleetRecord | None, demand: Mapping[str, ModelDemand]
) -> ModelViewList:
    replicas = fleet.replicas if fleet else ()
    return ModelViewList(
        simulated=fleet is not None and simulated(fleet),
        data=tuple(ModelView(**_model(record, replicas, demand)) for record in catalog),
    )


def model_detail(record: ModelRecord, fleet: FleetRecord | None, demand: Mapping[str, ModelDemand]) -> ModelDetail:
    mine = tuple(replica for replica in (fleet.replicas if fleet else ()) if replica.model_id == record.model_id)
    shown = _model(record, mine, demand)
    return ModelDetail(**shown, simulated=fleet is not None and simulated(fleet), replica_records=mine)


def replica_list(fleet: FleetRecord) -> ReplicaList:
    return ReplicaList(simulated=simulated(fleet), data=fleet.replicas)


def _model(record: ModelRecord, replicas: Iterable[ReplicaRecord], demand: Mapping[str, ModelDemand]) -> dict[str, Any]:
    mine = [replica for replica in replicas if replica.model_id == record.model_id]
    states = {replica.state for replica in mine}
    now = demand.get(record.model_id, ModelDemand())
    return msgspec.structs.asdict(record) | {
        "tier": "gpu" if "ready" in states else "host" if "asleep" in states else record.weights_tier or "disk",
        "path": _said("path", mine),
        "weights": _said("weights", mine),
        "memory": _memory(mine),
        "replicas": tuple(replica.replica_id for replica in mine),
        "in_flight": now.in_flight,
        "held": now.held,
        "last_request_unix_s": now.last_request_unix_s,
    }


def _said(what: str, replicas: Iterable[ReplicaRecord]) -> str:
    return ", ".join(sorted({replica.detail[what] for replica in replicas if what in replica.detail}))


def _memory(replicas: Iterable[ReplicaRecord]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for replica in replicas:
        total.update(replica.measured or {})
    return dict(total)


def ledger(fleet: FleetRecord) -> Ledger:
    gpus = tuple(
        GpuLedger(
            gpu=gpu.id,
            node=gpu.node,
            simulated=gpu.simulated,
            capacity_bytes=gpu.memory_bytes,
            reserved_bytes=gpu.reserved_bytes,
            free_bytes=gpu.free_bytes,
            entries=tuple(entry for entry in fleet.ledger if entry.gpu == gpu.id),
        )
        for gpu in fleet.gpus
        if not gpu.lost
    )
    nodes = tuple(
        HostLedger(
            node=node.id,
            capacity_bytes=node.host_bytes,
            reserved_bytes=node.host_reserved_bytes,
            free_bytes=node.host_bytes - node.host_reserved_bytes,
            entries=tuple(entry for entry in fleet.ledger if entry.node == node.id and entry.host_bytes),
        )
        for node in fleet.nodes
        if node.state != "lost"
    )
    return Ledger(seq=fleet.seq, simulated=simulated(fleet), gpus=gpus, nodes=nodes)


@dataclass(frozen=True, slots=True)
class Workers:
    """Of the gateway's port: how many there should be, the one that answers, and the others that say something."""

    wanted: int
    this: GatewayStatus
    others: Sequence[GatewayStatus] = ()

    @property
    def all(self) -> tuple[GatewayStatus, ...]:
        return tuple(sorted((self.this, *self.others), key=lambda worker: worker.number))


def status(
    version: str,
    workers: Workers,
    fleet: FleetRecord | None,
    models: int,
    demand: Mapping[str, ModelDemand],
    now_unix_s: float,
    usage_problems: Sequence[str] = (),
) -> Status:
    gpus = [gpu for gpu in fleet.gpus if not gpu.lost] if fleet else []
    return Status(
        version=version,
        simulated=simulated(fleet) if fleet else False,
        gateway=workers.this,
        workers=workers.all,
        workers_wanted=workers.wanted,
        controller=controller_status(fleet, now_unix_s) if fleet else None,
        nodes=sum(node.state != "lost" for node in fleet.nodes) if fleet else 0,
        gpus=len(gpus),
        gpu_memory_bytes=sum(gpu.memory_bytes for gpu in gpus),
        gpu_reserved_bytes=sum(gpu.reserved_bytes for gpu in gpus),
        models=models,
        replicas=dict(Counter(replica.state for replica in fleet.replicas)) if fleet else {},
        in_flight=sum(model.in_flight for model in demand.values()),
        held=sum(model.held for model in demand.values()),
        config_error=fleet.config_error if fleet else None,
        problems=(*((*fleet.problems, *_hardware_problems(fleet)) if fleet else ()), *usage_problems),
        out_of_service=tuple(_out_of_service(fleet)) if fleet else (),
    )


def _out_of_service(fleet: FleetRecord) -> Iterator[str]:
    """By operators' orders, which outlive everything and are easily forgotten."""
    for node in fleet.nodes:
        if node.state != "lost" and (node.cordoned or node.state == "leaving"):
            how = "leaving" if node.state == "leaving" else "drained" if node.drained else "cordoned"
            yield f"{node.id} is {how}: nothing new goes there; roundhouse node uncordon {node.id}"
    for gpu in fleet.gpus:
        if gpu.cordoned and not gpu.lost:
            yield f"{gpu.id} is drained: nothing new goes there; roundhouse gpus undrain {gpu.id}"


def _hardware_problems(fleet: FleetRecord) -> Iterator[str]:
    """Machines and GPUs that operators should see to."""
    for node in fleet.nodes:
        if node.state in ("away", "lost"):
            yield f"node {node.id} is {node.state}: {node.reason}; docs/operations.md says what to do"
    gone = {node.id for node in fleet.nodes if node.state == "lost"}
    for gpu in fleet.gpus:
        if gpu.lost and gpu.node not in gone:
            yield f"GPU {gpu.id} is lost: {gpu.lost}; reset or replace it"


def controller_status(fleet: FleetRecord, now_unix_s: float) -> ControllerStatus:
    age_s = written_s_ago(fleet, now_unix_s)
    return ControllerStatus(
        pid=fleet.controller_pid,
        seq=fleet.seq,
        updated_unix_s=fleet.updated_unix_s,
        age_s=age_s,
        alive=age_s < CONTROLLER_SILENT_S,
        routes_version=fleet.routes_version,
    )


def simulated(fleet: FleetRecord) -> bool:
    """True as soon as one GPU is not a real one."""
    return any(gpu.simulated for gpu in fleet.gpus)
