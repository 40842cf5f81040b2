"""Which replica has reserved which bytes of which GPU and of each node's host RAM. Never above capacity."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from packers.explain import size
from packers.types import Gpu, GpuId, ModelId, Node, NodeId, Replica, ReplicaId, ReplicaState, Snapshot


class LedgerError(Exception):
    """Something that the ledger does not allow. Nothing has changed when it is raised."""


class OverCapacity(LedgerError):
    """``place`` (a GPU, or a node's host RAM) has ``free_bytes`` for this replica, which needs ``needed_bytes``."""

    def __init__(
        self,
        replica: ReplicaId,
        kind: Literal["gpu", "host"],
        place: GpuId | NodeId,
        needed_bytes: int,
        free_bytes: int,
    ) -> None:
        super().__init__(replica, kind, place, needed_bytes, free_bytes)
        self.replica, self.kind, self.place = replica, kind, place
        self.needed_bytes, self.free_bytes = needed_bytes, free_bytes

    def __str__(self) -> str:
        where = f"GPU {self.place}" if self.kind == "gpu" else f"the host RAM of node {self.place}"
        return f"replica {self.replica} needs {size(self.needed_bytes)} of {where}, {size(self.free_bytes)} are free"


class UnknownGpu(LedgerError):
    def __init__(self, gpu: GpuId) -> None:
        super().__init__(gpu)
        self.gpu = gpu

    def __str__(self) -> str:
        return f"GPU {self.gpu!r} is not in the ledger; only GPUs that the ledger was made with hold reservations"


class UnknownNode(LedgerError):
    def __init__(self, node: NodeId) -> None:
        super().__init__(node)
        self.node = node

    def __str__(self) -> str:
        return f"node {self.node!r} is not in the ledger; every GPU's node has to be among the nodes"


@dataclass(frozen=True, slots=True)
class Entry:
    """One replica's reservation."""

    replica: ReplicaId
    model: ModelId
    gpu: GpuId
    node: NodeId
    gpu_bytes: int
    host_bytes: int


def leaving(replica: Replica) -> bool:
    """True when its bytes are on their way back: it drains, or it is asleep and being ended."""
    dying = replica.state is ReplicaState.ASLEEP and replica.draining_to is ReplicaState.DEAD
    return replica.state is ReplicaState.DRAINING or dying


def holds(replica: Replica) -> tuple[int, int]:
    """(GPU bytes, host bytes) that a replica holds in its present state.

    One that drains towards sleep holds its host bytes already: two of them must not both count on the same RAM.
    """
    footprint = replica.footprint
    match replica.state:
        case ReplicaState.DEAD:
            return 0, 0
        case ReplicaState.ASLEEP:
            return footprint.residue_bytes, footprint.host_bytes
        case ReplicaState.DRAINING if replica.draining_to is ReplicaState.ASLEEP:
            return max(footprint.gpu_bytes, footprint.residue_bytes), footprint.host_bytes
        case _:
            return footprint.gpu_bytes, 0


def will_hold(replica: Replica) -> tuple[int, int]:
    """(GPU bytes, host bytes) once what is under way with a leaving replica is done."""
    if not leaving(replica):
        return holds(replica)
    if replica.draining_to is ReplicaState.ASLEEP:
        return replica.footprint.residue_bytes, replica.footprint.host_bytes
    return 0, 0


class Ledger:
    """Reservations per replica. Every method either succeeds or raises a LedgerError and changes nothing."""

    def __init__(self, gpus: Iterable[Gpu], nodes: Iterable[Node]) -> None:
        """Raises UnknownNode when a GPU's node is not among ``nodes``, LedgerError for two GPUs or nodes of one id."""
        gpus, nodes = tuple(gpus), tuple(nodes)
        self._gpus = {gpu.id: gpu for gpu in gpus}
        self._nodes = {node.id: node for node in nodes}
        if len(self._gpus) < len(gpus) or len(self._nodes) < len(nodes):
            raise LedgerError("two GPUs or two nodes have the same id; ids have to be unique in the cluster")
        for gpu in gpus:
            if gpu.node not in self._nodes:
                raise UnknownNode(gpu.node)
        self._entries: dict[ReplicaId, Entry] = {}
        self._gpu_used = dict.fromkeys(self._gpus, 0)
        self._host_used = dict.fromkeys(self._nodes, 0)

    @classmethod
    def of(cls, snapshot: Snapshot) -> Ledger:
        """The ledger of what the snapshot's replicas hold. Raises LedgerError when they hold more than there is."""
        ledger = cls(snapshot.gpus, snapshot.nodes)
        seen: set[ReplicaId] = set()
        for replica in snapshot.replicas:
            if replica.id in seen:
                raise LedgerError(f"replica {replica.id!r} is in the snapshot twice; replica ids have to be unique")
            seen.add(replica.id)
            ledger.hold(replica)
        return ledger

    def hold(self, replica: Replica) -> None:
        """Reserve what the replica holds in its present state (``holds``), in place of what it had reserved before."""
        if replica.state is ReplicaState.DEAD:
            self.release(replica.id)
            return
        gpu_bytes, host_bytes = holds(replica)
        self.reserve(replica.id, replica.model, replica.gpu, gpu_bytes, host_bytes)

    def reserve(self, replica: ReplicaId, model: ModelId, gpu: GpuId, gpu_bytes: int, host_bytes: int = 0) -> None:
        """Reserve, in place of the replica's earlier reservation. Raises OverCapacity, UnknownGpu, LedgerError."""
        if gpu_bytes < 0 or host_bytes < 0:
            raise LedgerError(f"replica {replica} cannot reserve a negative number of bytes")
        node = self._gpu(gpu).node
        before = self._entries.get(replica)
        gpu_free, host_free = self.free_gpu(gpu), self.free_host(node)
        if before is not None:
            gpu_free += before.gpu_bytes if before.gpu == gpu else 0
            host_free += before.host_bytes if before.node == node else 0
        if gpu_bytes > gpu_free:
            raise OverCapacity(replica, "gpu", gpu, gpu_bytes, gpu_free)
        if host_bytes > host_free:
            raise OverCapacity(replica, "host", node, host_bytes, host_free)
        self.release(replica)
        self._entries[replica] = Entry(replica, model, gpu, node, gpu_bytes, host_bytes)
        self._gpu_used[gpu] += gpu_bytes
        self._host_used[node] += host_bytes

    def release(self, replica: ReplicaId) -> Entry | None:
        """Give back what the replica has reserved; returns it, or None when there was nothing."""
        entry = self._entries.pop(replica, None)
        if entry is not None:
            self._gpu_used[entry.gpu] -= entry.gpu_bytes
            self._host_used[entry.node] -= entry.host_bytes
        return entry

    def free_gpu(self, gpu: GpuId) -> int:
        """Bytes of the GPU that nobody has reserved. Raises UnknownGpu."""
        return self._gpu(gpu).memory_bytes - self._gpu_used[gpu]

    def free_host(self, node: NodeId) -> int:
        """Bytes of host RAM for sleeping replicas that nobody has reserved. Raises UnknownNode."""
        if node not in self._nodes:
            raise UnknownNode(node)
        return self._nodes[node].host_bytes - self._host_used[node]

    def reserved_gpu(self, gpu: GpuId) -> int:
        """Raises UnknownGpu."""
        self._gpu(gpu)
        return self._gpu_used[gpu]

    def reserved_host(self, node: NodeId) -> int:
        """Raises UnknownNode."""
        if node not in self._nodes:
            raise UnknownNode(node)
        return self._host_used[node]

    def entries(self) -> tuple[Entry, ...]:
        """Every reservation, by replica id."""
        return tuple(self._entries[replica] for replica in sorted(self._entries))

    def get(self, replica: ReplicaId) -> Entry | None:
        return self._entries.get(replica)

    def copy(self) -> Ledger:
        """An independent ledger with the same reservations."""
        twin = Ledger.__new__(Ledger)
        twin._gpus, twin._nodes = self._gpus, self._nodes  # never change after the start
        twin._entries = dict(self._entries)
        twin._gpu_used = dict(self._gpu_used)
        twin._host_used = dict(self._host_used)
        return twin

    def _gpu(self, gpu: GpuId) -> Gpu:
        try:
            return self._gpus[gpu]
        except KeyError:
            raise UnknownGpu(gpu) from None
