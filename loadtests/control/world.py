"""A real controller with many models on a fleet that takes no time: what is measured is the loop alone."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.catalog.card import ModelCard
from models.catalog.footprint import Declared
from models.control.actions import Actions
from models.control.catalog import Entry
from models.control.content import Source
from models.control.controller import Controller
from models.control.messages import CatalogChanged, Reported
from models.control.store import ControlStore
from models.control.world import World
from models.fleet.protocol import FleetNode
from models.fleet.virtual import VirtualClock, VirtualFleet
from models.runtimes.protocol import EngineOrder, EngineStatus
from models.store.records import DemandReport, ModelDemand
from packers.types import Gpu, GpuId, ModelId, NodeId, ReplicaId

MIB = 1 << 20
MODEL_BYTES = 10 * MIB
PER_GPU = 10
GPUS_PER_NODE = 8


class TimedFleet(VirtualFleet):
    """``ordered``: told of each start, at the moment when the loop hands it over."""

    ordered: Callable[[str], None] = staticmethod(lambda model: None)

    async def start(self, node: NodeId, order: EngineOrder) -> EngineStatus:
        self.ordered(order.model_id)
        return await super().start(node, order)


@dataclass(slots=True)
class Scene:
    """``serving`` models have a replica, the others none; there is room for all."""

    controller: Controller
    fleet: TimedFleet
    models: tuple[str, ...]
    serving: int

    @property
    def stopped(self) -> tuple[str, ...]:
        return self.models[self.serving :]


def build(count: int, store: ControlStore) -> Scene:
    """``count`` models in the catalog, on GPUs that hold them all."""
    names = tuple(f"model-{i:05d}" for i in range(count))
    entries = {ModelId(name): _entry(name) for name in names}
    gpus = -(-count // PER_GPU)
    fleet = TimedFleet(_nodes(gpus), VirtualClock(), start_s=0.0, wake_s=0.0)
    numbers = itertools.count(1)

    async def check(card: ModelCard, node: NodeId) -> Source:
        return Source(Path(card.model_source), "as it was")

    def load(_: CatalogChanged) -> dict[ModelId, Entry]:
        return entries

    controller = Controller(
        World.empty(_nodes(gpus), entries),
        Actions(fleet, check=check, logs=Path("/logs")),
        store,
        clock=time.time,
        new_replica_id=lambda model: ReplicaId(f"{model}-{next(numbers)}"),
        load_catalog=load,
    )
    return Scene(controller, fleet, names, serving=count // 2 - count // 20)


def report(scene: Scene, worker: str, seq: int, *, held: str | None = None) -> Reported:
    """As a gateway sends it while every model that serves is called: all of their counters have moved."""
    now = time.time()
    models = {
        name: ModelDemand(in_flight=1, arrived=seq, finished=seq - 1, busy_s=0.1 * seq, last_request_unix_s=now)
        for name in scene.models[: scene.serving]
    }
    if held is not None:
        models[held] = ModelDemand(held=1, oldest_held_unix_s=now, arrived=1, last_request_unix_s=now)
    replicas = {str(replica): 1 for replica in scene.controller.world.replicas}
    version = scene.controller.world.routes_version
    return Reported(
        DemandReport(
            worker=worker,
            routes_version=version,
            sent_unix_s=now,
            since_unix_s=now - 60.0,
            models=models,
            replicas=replicas,
        )
    )


def _entry(name: str) -> Entry:
    declared = Declared(weights=MODEL_BYTES, kv_cache=0, overhead=0, residue=0, host=MODEL_BYTES)
    card = ModelCard(model_id=name, model_source=name, declared=declared, max_replicas=4)
    return Entry(card, card.footprint(None), 1024, folder=name)


def _nodes(gpus: int) -> tuple[FleetNode, ...]:
    nodes = []
    for number in range(-(-gpus // GPUS_PER_NODE)):
        node = NodeId(f"node-{number}")
        here = range(min(GPUS_PER_NODE, gpus - number * GPUS_PER_NODE))
        devices = tuple(Gpu(GpuId(f"{node}/gpu-{i}"), node, i, PER_GPU * MODEL_BYTES) for i in here)
        nodes.append(FleetNode(id=node, address="127.0.0.1", host_bytes=64 << 30, gpus=devices, run_dir="/run/x"))
    return tuple(nodes)
