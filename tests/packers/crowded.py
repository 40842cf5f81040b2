"""Full GPUs, idle replicas with a past, sleepers, and models that wait: worlds in which most plans have to evict."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from packers.types import (
    Demand,
    Footprint,
    Gpu,
    GpuId,
    Model,
    ModelId,
    Node,
    NodeId,
    Replica,
    ReplicaId,
    Snapshot,
    StartTimes,
)
from packers.usage import Usage, UsageTracker
from tests.packers.worlds import ASLEEP, READY

NOW_S = 10_000.0
GPU_BYTES = 80
MOST_ARRIVALS = 60


def crowded_world(seed: int) -> Snapshot:
    """Sizes are in bytes, so that sums come out even by chance."""
    rng = Random(seed)
    places = rng.randint(1, 6)
    gpus = tuple(Gpu(GpuId(f"n{i // 4}/{i % 4}"), NodeId(f"n{i // 4}"), i % 4, GPU_BYTES) for i in range(places))
    nodes = tuple(Node(name, rng.choice([0, 60, 400])) for name in dict.fromkeys(gpu.node for gpu in gpus))
    free = {gpu.id: gpu.memory_bytes for gpu in gpus}
    host = {node.id: node.host_bytes for node in nodes}
    models: list[Model] = []
    replicas: list[Replica] = []
    for number in range(rng.randint(8, 40)):
        model = _model(rng, number)
        kind, busy = rng.random(), rng.random() < 0.2
        needs = model.footprint
        roomy = [gpu for gpu in gpus if free[gpu.id] >= needs.gpu_bytes]
        gpu = rng.choice(roomy or gpus)
        if kind < 0.7 and free[gpu.id] >= needs.gpu_bytes:
            free[gpu.id] -= needs.gpu_bytes
            replicas.append(_ready(rng, model, gpu.id, busy))
            model = replace(model, demand=Demand(in_flight=int(busy)))
        elif kind < 0.85 and free[gpu.id] >= needs.residue_bytes and host[gpu.node] >= needs.host_bytes:
            free[gpu.id] -= needs.residue_bytes
            host[gpu.node] -= needs.host_bytes
            replicas.append(Replica(ReplicaId(f"{model.id}-1"), model.id, gpu.id, ASLEEP, needs, 0, NOW_S - 500))
        if not model.demand.in_flight and rng.random() < 0.2:
            model = replace(model, demand=Demand(held=1, oldest_wait_s=rng.choice([0.0, 1.0, 70.0])))
        models.append(model)
    return Snapshot("s", NOW_S, gpus, nodes, tuple(replicas), tuple(models))


def _model(rng: Random, number: int) -> Model:
    weights = rng.randint(2, 40)
    return Model(
        ModelId(f"m{number:02d}"),
        Footprint(weights, rng.randint(0, 12), 1, rng.choice([0, 0, 2]), weights),
        min_replicas=rng.choice([0] * 6 + [1]),
        ttl_s=rng.choice([600.0, float("inf"), float("inf")]),
        priority=rng.choice([0, 0, 0, 1]),
        can_sleep=rng.random() < 0.9,
        pinned=rng.random() < 0.05,
        wakes_anywhere=rng.random() < 0.6,
        startup=StartTimes(8 + weights / 3, 1 + weights / 20),
        usage=_usage(rng),
    )


def _usage(rng: Random) -> Usage:
    tracker = UsageTracker()
    mean_s = rng.choice([3, 30, 300, 3000])
    at_s = 0.0
    for _ in range(MOST_ARRIVALS):
        at_s += rng.expovariate(1 / mean_s)
        if at_s >= NOW_S:
            break
        tracker.arrive(at_s)
    return tracker.usage(NOW_S)


def _ready(rng: Random, model: Model, gpu: GpuId, busy: bool) -> Replica:
    used_s, since_s = NOW_S - rng.expovariate(0.01), NOW_S - rng.expovariate(0.001)
    return Replica(ReplicaId(f"{model.id}-1"), model.id, gpu, READY, model.footprint, int(busy), used_s, since_s)
