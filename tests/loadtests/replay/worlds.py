"""A recorded world for the tests of the replay: one node, two GPUs, models that do not all fit."""

from __future__ import annotations

from models.control.recording import Step
from packers.decide import Policies
from packers.types import (
    Action,
    Footprint,
    Gpu,
    GpuId,
    Model,
    ModelId,
    Node,
    NodeId,
    Plan,
    Replica,
    ReplicaId,
    ReplicaState,
    Snapshot,
)

MIB = 2**20
NODE = NodeId("n")
GPUS = (GpuId("n/0"), GpuId("n/1"))
FOOTPRINT = Footprint(16 * MIB, 16 * MIB, 112 * MIB, host_bytes=16 * MIB)


def model(name: str) -> Model:
    return Model(ModelId(name), FOOTPRINT, ttl_s=3600.0)


def replica(name: str, gpu: GpuId, state: ReplicaState = ReplicaState.READY) -> Replica:
    return Replica(ReplicaId(f"{name}-1"), ModelId(name), gpu, state, FOOTPRINT)


def step(
    now_s: float,
    replicas: tuple[Replica, ...] = (),
    actions: tuple[Action, ...] = (),
    models: tuple[str, ...] = ("m00", "m01", "m02", "m03"),
) -> Step:
    snapshot = Snapshot(
        id=f"{now_s}",
        now_s=now_s,
        gpus=tuple(Gpu(gpu, NODE, index, 300 * MIB) for index, gpu in enumerate(GPUS)),
        nodes=(Node(NODE, 64 * MIB),),
        replicas=replicas,
        models=tuple(map(model, models)),
    )
    return Step(snapshot=snapshot, policies=Policies(), plan=Plan(snapshot.id, actions))
