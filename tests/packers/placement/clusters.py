"""Small clusters: ``cluster({"a": [80, 80], "b": [40]})`` has two nodes with GPUs of so many GiB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from packers.placement import Ask, Cluster, Spot
from packers.types import OWNED, Gpu, GpuId, Node, NodeId, Pool, PoolId

GIB = 1 << 30


def gpus_of(
    nodes: Mapping[str, Sequence[int]],
    types: Mapping[str, str] | None = None,
    pools: Mapping[str, PoolId] | None = None,
) -> list[Gpu]:
    return [
        Gpu(
            GpuId(f"{node}/{index}"),
            NodeId(node),
            index,
            gib * GIB,
            (types or {}).get(node, "H100"),
            pool=(pools or {}).get(node, OWNED),
        )
        for node, sizes in nodes.items()
        for index, gib in enumerate(sizes)
    ]


def cluster(
    nodes: Mapping[str, Sequence[int]],
    types: Mapping[str, str] | None = None,
    cpu_milli: int = 0,
    host_gib: int = 100,
    pools: Sequence[Pool] = (),
    pool_of: Mapping[str, PoolId] | None = None,
) -> Cluster:
    listed = [Node(NodeId(node), host_gib * GIB, cpu_milli) for node in nodes]
    return Cluster(gpus_of(nodes, types, pool_of), listed, pools)


def spot(*gpus: str, node: str = "") -> Spot:
    return Spot(NodeId(node or gpus[0].split("/")[0]), tuple(GpuId(gpu) for gpu in gpus), 0.0)


def arrays(there: Cluster) -> list[list[object]]:
    names = ("free_bytes", "free_milli", "free_cpu", "free_host", "cordoned", "repeated")
    return [getattr(there, name).tolist() for name in names]


def fits_somewhere(there: Cluster, ask: Ask) -> bool:
    """Spelled out, node by node and GPU by GPU."""
    for row in range(len(there)):
        good = [
            column
            for column, gpu in enumerate(there.gpus_of[row])
            if there.free_gpu(gpu.id) >= (ask.gpu_bytes, 0)
            and there.free_gpu(gpu.id)[1] >= ask.compute_milli
            and not there.cordoned[row, column]
            and (not ask.gpu_types or gpu.name in ask.gpu_types)
        ]
        cpu_milli, host_bytes = there.free_node(there.nodes[row].id)
        if len(good) >= ask.gpus and cpu_milli >= ask.cpu_milli and host_bytes >= ask.host_bytes:
            return True
    return False


def within_capacity(there: Cluster) -> bool:
    pairs = (
        (there.free_bytes, there.total_bytes),
        (there.free_milli, there.total_milli),
        (there.free_cpu, there.total_cpu),
        (there.free_host, there.total_host),
    )
    return all(bool(np.all(free >= 0) and np.all(free <= total)) for free, total in pairs)


@dataclass(frozen=True)
class World:
    """A cluster's parts, in an order that must not matter, and asks that come one after the other."""

    gpus: tuple[Gpu, ...]
    nodes: tuple[Node, ...]
    asks: tuple[Ask, ...]

    def cluster(self, reverse: bool = False) -> Cluster:
        step = -1 if reverse else 1
        return Cluster(self.gpus[::step], self.nodes[::step])


asks = st.builds(
    Ask,
    gpus=st.sampled_from([1, 1, 1, 2, 4]),
    gpu_bytes=st.sampled_from([0, 5, 10, 33, 40, 80]).map(lambda gib: gib * GIB),
    compute_milli=st.sampled_from([0, 190, 470, 810, 1000]),
    cpu_milli=st.sampled_from([0, 1000, 4000, 12000]),
    host_bytes=st.sampled_from([0, 4, 16]).map(lambda gib: gib * GIB),
    gpu_types=st.sampled_from([(), (), ("H100",), ("A10", "T4")]),
) | st.builds(Ask, gpus=st.just(0), cpu_milli=st.integers(1, 20_000))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    gpus, nodes = [], []
    for number in range(draw(st.integers(1, 5))):
        name = f"n{number}"
        cpu_milli = draw(st.sampled_from([0, 8000, 32000]))
        nodes.append(Node(NodeId(name), draw(st.sampled_from([0, 16, 64])) * GIB, cpu_milli))
        kind = draw(st.sampled_from(["H100", "A10", "T4"]))
        gib = draw(st.sampled_from([24, 40, 80]))
        for index in range(draw(st.integers(0, 4))):
            gpus.append(Gpu(GpuId(f"{name}/{index}"), NodeId(name), index, gib * GIB, kind))
    return World(tuple(gpus), tuple(nodes), tuple(draw(st.lists(asks, min_size=1, max_size=12))))
