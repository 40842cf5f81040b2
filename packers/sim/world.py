"""What a simulation begins with: hardware, models, and how long things take there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from packers.sim.service import ServiceTimes
from packers.sim.startup import StartUp
from packers.types import (
    DEFAULT_START,
    OWNED,
    Gpu,
    GpuId,
    Guarantee,
    Model,
    ModelId,
    Node,
    NodeId,
    Pool,
    PoolId,
    Replica,
)


@dataclass(frozen=True, slots=True)
class SimWorld:
    """``replicas``: what is there in the beginning, READY or ASLEEP. A model whose ``startup`` is left at its default
    gets the times of ``startup``, as production would have measured them."""

    gpus: tuple[Gpu, ...]
    nodes: tuple[Node, ...]
    models: tuple[Model, ...]
    pools: tuple[Pool, ...] = ()
    replicas: tuple[Replica, ...] = ()
    startup: StartUp = field(default_factory=StartUp)
    service: ServiceTimes = field(default_factory=ServiceTimes)
    guarantees: tuple[Guarantee, ...] = ()

    def informed(self, model: Model) -> Model:
        """With its start-up times, if nobody has stated them."""
        return model if model.startup != DEFAULT_START else replace(model, startup=self.startup.times(model))

    @property
    def model_ids(self) -> frozenset[ModelId]:
        return frozenset(model.id for model in self.models)


def cluster(
    *,
    nodes: int,
    gpus_per_node: int,
    memory_bytes: int,
    host_bytes: int,
    models: Iterable[Model],
    link_bytes_per_s: float = 0.0,
    pool: Pool | None = None,
    startup: StartUp | None = None,
    service: ServiceTimes | None = None,
) -> SimWorld:
    """Equal nodes ``node-000`` ... with equal GPUs ``node-000/0`` ..."""
    where = pool.id if pool else OWNED
    names = [NodeId(f"node-{number:03d}") for number in range(nodes)]
    return SimWorld(
        gpus=tuple(_gpu(node, index, memory_bytes, where) for node in names for index in range(gpus_per_node)),
        nodes=tuple(Node(name, host_bytes, link_bytes_per_s=link_bytes_per_s) for name in names),
        models=tuple(models),
        pools=(pool,) if pool else (),
        startup=startup or StartUp(),
        service=service or ServiceTimes(),
    )


def _gpu(node: NodeId, index: int, memory_bytes: int, pool: PoolId) -> Gpu:
    return Gpu(GpuId(f"{node}/{index}"), node, index, memory_bytes, pool=pool)
