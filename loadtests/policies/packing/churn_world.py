"""Models that come and go, for goal P6: a zoo of language models, and a cluster that counts the GPUs in use.

Sizes of 0.5 to 70 billion parameters, each as likely, in fp16, fp8 or int4, with an overhead of 0.8 GB and a KV cache
by one of three mixes, in units of 64 MiB. What does not fit on a GPU is drawn again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from packers.defrag.moves import Move
from packers.defrag.outlive import Seat, choose
from packers.state import State
from packers.types import Footprint, Gpu, GpuId, Model, ModelId, Node, NodeId, Replica, ReplicaId, ReplicaState

UNIT_BYTES = 64 << 20
GIB = 1 << 30
OVERHEAD_BYTES = 800_000_000
BILLIONS = (0.5, 1.1, 1.5, 2.0, 3.0, 3.8, 7.0, 8.0, 9.0, 13.0, 14.0, 20.0, 24.0, 27.0, 32.0, 34.0, 70.0)
BYTES_PER_WEIGHT = (2.0, 1.0, 0.5)
GPUS_A_NODE = 8

# KV cache bytes of a model with so many weights, drawn.
KV: dict[str, Callable[[np.random.Generator, float], float]] = {
    "kv-0.5-16GiB": lambda rng, _: GIB * float(np.exp(rng.uniform(np.log(0.5), np.log(16)))),
    "kv-by-size": lambda rng, weights: 5e8 + 0.6 * weights * float(rng.uniform(0.1, 0.5)),
    "kv-1-2-4-8GiB": lambda rng, _: float(GIB * rng.choice((1, 2, 4, 8))),
}


@dataclass(frozen=True, slots=True)
class Mix:
    """``models`` at a time on GPUs of ``gpu_bytes``, of which ``changes`` leave and as many arrive each epoch."""

    name: str
    kv: str
    gpu_bytes: int = 80_000_000_000
    models: int = 300
    changes: int = 10
    epochs: int = 150
    warm_up: int = 50  # epochs that do not count: the first placement was made all at once


def draw(rng: np.random.Generator, mix: Mix) -> Footprint:
    while True:
        weights = float(rng.choice(BILLIONS)) * 1e9
        weights_bytes = int(weights * float(rng.choice(BYTES_PER_WEIGHT)))
        kv_bytes = KV[mix.kv](rng, weights)
        units = -(-int(weights_bytes + OVERHEAD_BYTES + kv_bytes) // UNIT_BYTES)
        if units <= mix.gpu_bytes // UNIT_BYTES:
            return Footprint(weights_bytes, units * UNIT_BYTES - weights_bytes - OVERHEAD_BYTES, OVERHEAD_BYTES)


def l2_bound(sizes: npt.NDArray[np.int64], capacity: int) -> int:
    """Bins that are needed at least: Martello and Toth's bound L2 (Knapsack Problems, 1990, section 8.3)."""
    ordered = np.sort(sizes)[::-1]
    sums = np.concatenate(([0], np.cumsum(ordered)))
    total = int(sums[-1])
    best = -(-total // capacity)
    halves = int((2 * ordered > capacity).sum())
    for least in np.unique(ordered[2 * ordered <= capacity]):
        alone = int((ordered > capacity - least).sum())
        counted = int((ordered >= least).sum())
        large = int(sums[halves] - sums[alone])
        small = int(sums[counted] - sums[halves])
        room = (halves - alone) * capacity - large
        best = max(best, halves + max(0, -(-(small - room) // capacity)))
    return max(best, halves)


class Cluster:
    """A State with more GPUs than are ever needed. Everything on it is checked by its ledger."""

    def __init__(self, mix: Mix, placement: str, spare: int) -> None:
        nodes = [Node(NodeId(f"n{number:03}"), 0) for number in range(-(-spare // GPUS_A_NODE))]
        self.state = State(nodes=nodes)
        for node in nodes:
            for index in range(GPUS_A_NODE):
                self.state.put_gpu(Gpu(GpuId(f"{node.id}/{index}"), node.id, index, mix.gpu_bytes))
        self.placement = placement
        self._starts = 0

    def arrive(self, model: ModelId, footprint: Footprint) -> None:
        gpu = self._place(footprint.gpu_bytes)
        self.state.put_model(Model(model, footprint, min_replicas=1))
        self._put(model, footprint, gpu)

    def depart(self, model: ModelId) -> None:
        for replica in [*self.state.index.of_model[model]]:
            self.state.drop_replica(replica)
        self.state.drop_model(model)

    def make(self, move: Move) -> None:
        """The substitute first, then the old one leaves. Raises OverCapacity."""
        self._put(move.model, move.footprint, move.target[0])
        self.state.drop_replica(move.replica)

    def in_use(self) -> int:
        return sum(1 for gpu in self.state.gpus if self.state.index.on_gpu(gpu))

    def sizes(self) -> npt.NDArray[np.int64]:
        return np.array([one.footprint.gpu_bytes for one in self.state.replicas.values()], np.int64)

    def _put(self, model: ModelId, footprint: Footprint, gpu: GpuId) -> None:
        self._starts += 1
        name = ReplicaId(f"{model}-{self._starts}")
        self.state.put_replica(Replica(name, model, gpu, ReplicaState.READY, footprint))

    def _place(self, needs_bytes: int) -> GpuId:
        free, on_gpu = self.state.index.now.gpu, self.state.index.on_gpu
        seats = [Seat(gpu.id, gpu.memory_bytes, free[gpu.id], len(on_gpu(gpu.id))) for gpu in self.state.index.order]
        if self.placement == "best-fit":
            found = min(
                (seat for seat in seats if seat.free_bytes >= needs_bytes),
                key=lambda seat: (seat.free_bytes, seat.gpu),
                default=None,
            )
        else:
            found = choose(seats, needs_bytes)
        if found is None:
            raise RuntimeError("the benchmark's cluster has run out of GPUs")
        return found.gpu
