"""Which replica has reserved how much of which GPUs and of its node. Never above capacity.

A ``Holding`` is one reservation, a ``Tally`` the sums of many, a ``Ledger`` knows each by its replica.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from packers.explain import size
from packers.types import Footprint, Gpu, GpuId, ModelId, Node, NodeId, Replica, ReplicaId, ReplicaState, Snapshot


class LedgerError(Exception):
    """Something that the ledger does not allow. Nothing has changed when it is raised."""


class OverCapacity(LedgerError):
    """``place`` has ``free_bytes`` for this replica, which needs ``needed_bytes``.

    ``kind``: of GPU memory or of a node's host RAM; for "compute" and "cpu" the two figures are thousandths of a GPU's
    compute and of a CPU core.
    """

    def __init__(
        self,
        replica: ReplicaId,
        kind: Literal["gpu", "host", "compute", "cpu"],
        place: GpuId | NodeId,
        needed_bytes: int,
        free_bytes: int,
    ) -> None:
        super().__init__(replica, kind, place, needed_bytes, free_bytes)
        self.replica, self.kind, self.place = replica, kind, place
        self.needed_bytes, self.free_bytes = needed_bytes, free_bytes

    def __str__(self) -> str:
        needed, free = size(self.needed_bytes), size(self.free_bytes)
        if self.kind in ("compute", "cpu"):
            needed, free = f"{self.needed_bytes / 1000:g}", f"{self.free_bytes / 1000:g}"
        where = {
            "gpu": f"GPU {self.place}",
            "host": f"the host RAM of node {self.place}",
            "compute": f"the compute of GPU {self.place}",
            "cpu": f"the CPU cores of node {self.place}",
        }[self.kind]
        return f"replica {self.replica} needs {needed} of {where}, {free} are free"


class UnknownGpu(LedgerError):
    def __init__(self, gpu: GpuId) -> None:
        super().__init__(gpu)
        self.gpu = gpu

    def __str__(self) -> str:
        return f"GPU {self.gpu!r} is not in the ledger; only GPUs that it was made with or told of hold reservations"


class UnknownNode(LedgerError):
    def __init__(self, node: NodeId) -> None:
        super().__init__(node)
        self.node = node

    def __str__(self) -> str:
        return f"node {self.node!r} is not in the ledger; every GPU's node has to be among the nodes"


class Holding(NamedTuple):
    """What a replica holds: ``gpu_bytes`` and ``compute_milli`` on each GPU, the rest once, on its node."""

    gpus: tuple[GpuId, ...]
    node: NodeId
    gpu_bytes: int
    host_bytes: int = 0
    compute_milli: int = 0
    cpu_milli: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One replica's reservation. ``gpu_bytes`` on ``gpu`` and on each of its ``peers``; ``host_bytes`` together."""

    replica: ReplicaId
    model: ModelId
    gpu: GpuId
    node: NodeId
    gpu_bytes: int
    host_bytes: int
    peers: tuple[GpuId, ...] = ()
    compute_milli: int = 0
    cpu_milli: int = 0

    @property
    def holding(self) -> Holding:
        gpus = (self.gpu, *self.peers)
        return Holding(gpus, self.node, self.gpu_bytes, self.host_bytes, self.compute_milli, self.cpu_milli)


def leaving(replica: Replica) -> bool:
    """True when its bytes are on their way back: it drains, or it is asleep and being ended."""
    state = replica.state
    if state is ReplicaState.DRAINING:
        return True
    return state is ReplicaState.ASLEEP and replica.draining_to is ReplicaState.DEAD


def holds(replica: Replica) -> tuple[int, int]:
    """(GPU bytes on each of its GPUs, host bytes of all together) that a replica holds in its present state.

    One that drains towards sleep holds its host bytes already: two of them must not both count on the same RAM.
    """
    footprint = replica.footprint
    match replica.state:
        case ReplicaState.DEAD:
            return 0, 0
        case ReplicaState.ASLEEP:
            return footprint.residue_bytes, host_bytes(replica)
        case ReplicaState.DRAINING if replica.draining_to is ReplicaState.ASLEEP:
            return max(footprint.gpu_bytes, footprint.residue_bytes), host_bytes(replica)
        case _:
            return footprint.gpu_bytes, 0


def will_hold(replica: Replica) -> tuple[int, int]:
    """(GPU bytes, host bytes) once what is under way with a leaving replica is done."""
    if not leaving(replica):
        return holds(replica)
    if replica.draining_to is ReplicaState.ASLEEP:
        return replica.footprint.residue_bytes, host_bytes(replica)
    return 0, 0


def host_bytes(replica: Replica) -> int:
    """Host RAM that it takes asleep: its footprint's for each of its GPUs."""
    return replica.footprint.host_bytes * (1 + len(replica.peers))


def holding(replica: Replica, node: NodeId) -> Holding:
    """What it holds now. It claims compute and CPU for as long as it is neither asleep nor dead."""
    gpu_bytes, in_host_bytes = holds(replica)
    if replica.state in (ReplicaState.ASLEEP, ReplicaState.DEAD):
        return Holding(replica.gpus, node, gpu_bytes, in_host_bytes)
    return awake(replica.footprint, replica.gpus, node, gpu_bytes, in_host_bytes)


def awake(footprint: Footprint, gpus: tuple[GpuId, ...], node: NodeId, gpu_bytes: int, host_bytes: int = 0) -> Holding:
    """With the compute and CPU of one that starts, serves or drains."""
    cpu_milli = footprint.cpu_milli * len(gpus)
    return Holding(gpus, node, gpu_bytes, host_bytes, footprint.compute_milli, cpu_milli)


class Tally:
    """What is free of each GPU and node. ``touched`` collects the GPUs of which that changes, for whoever keeps count.

    A node with no ``cpu_milli`` does not count CPU.
    """

    __slots__ = ("_gpus", "_nodes", "compute", "cpu", "gpu", "host", "touched")

    def __init__(self, gpus: dict[GpuId, Gpu], nodes: dict[NodeId, Node], touched: set[GpuId] | None = None) -> None:
        self._gpus, self._nodes = gpus, nodes
        self.gpu = {gpu.id: gpu.memory_bytes for gpu in gpus.values()}
        self.compute = {gpu.id: gpu.compute_milli for gpu in gpus.values()}
        self.host = {node.id: node.host_bytes for node in nodes.values()}
        self.cpu = {node.id: node.cpu_milli for node in nodes.values()}
        self.touched: set[GpuId] = set() if touched is None else touched

    def free_gpu(self, gpu: GpuId) -> int:
        """Bytes of the GPU that nobody has reserved. Raises UnknownGpu."""
        try:
            return self.gpu[gpu]
        except KeyError:
            raise UnknownGpu(gpu) from None

    def free_host(self, node: NodeId) -> int:
        """Bytes of host RAM for sleeping replicas that nobody has reserved. Raises UnknownNode."""
        try:
            return self.host[node]
        except KeyError:
            raise UnknownNode(node) from None

    def check(self, replica: ReplicaId, wanted: Holding, before: Holding | None = None) -> None:
        """Raises OverCapacity when ``wanted`` does not fit in place of ``before``, which is reserved."""
        for gpu in wanted.gpus:
            had = before if before is not None and gpu in before.gpus else None
            free_bytes = self.free_gpu(gpu) + (had.gpu_bytes if had else 0)
            if wanted.gpu_bytes > free_bytes:
                raise OverCapacity(replica, "gpu", gpu, wanted.gpu_bytes, free_bytes)
            if wanted.compute_milli:
                free_milli = self.compute[gpu] + (had.compute_milli if had else 0)
                if wanted.compute_milli > free_milli:
                    raise OverCapacity(replica, "compute", gpu, wanted.compute_milli, free_milli)
        had = before if before is not None and before.node == wanted.node else None
        free_bytes = self.free_host(wanted.node) + (had.host_bytes if had else 0)
        if wanted.host_bytes > free_bytes:
            raise OverCapacity(replica, "host", wanted.node, wanted.host_bytes, free_bytes)
        if wanted.cpu_milli and self._nodes[wanted.node].cpu_milli:
            free_milli = self.cpu[wanted.node] + (had.cpu_milli if had else 0)
            if wanted.cpu_milli > free_milli:
                raise OverCapacity(replica, "cpu", wanted.node, wanted.cpu_milli, free_milli)

    def add(self, holding: Holding) -> None:
        """Reserve it; the caller has checked."""
        gpus, node, gpu_bytes, host_bytes, compute_milli, cpu_milli = holding
        for gpu in gpus:
            self.gpu[gpu] -= gpu_bytes
            self.compute[gpu] -= compute_milli
        self.host[node] -= host_bytes
        self.cpu[node] -= cpu_milli
        self.touched.update(gpus)

    def remove(self, holding: Holding) -> None:
        gpus, node, gpu_bytes, host_bytes, compute_milli, cpu_milli = holding
        for gpu in gpus:
            self.gpu[gpu] += gpu_bytes
            self.compute[gpu] += compute_milli
        self.host[node] += host_bytes
        self.cpu[node] += cpu_milli
        self.touched.update(gpus)

    def put_gpu(self, gpu: Gpu, more_bytes: int, more_milli: int) -> None:
        """A new GPU, or one that has become larger by so much."""
        self._gpus[gpu.id] = gpu
        self.gpu[gpu.id] = self.gpu.get(gpu.id, 0) + more_bytes
        self.compute[gpu.id] = self.compute.get(gpu.id, 0) + more_milli

    def put_node(self, node: Node, more_bytes: int, more_milli: int) -> None:
        self._nodes[node.id] = node
        self.host[node.id] = self.host.get(node.id, 0) + more_bytes
        self.cpu[node.id] = self.cpu.get(node.id, 0) + more_milli

    def drop_gpu(self, gpu: GpuId) -> None:
        del self._gpus[gpu], self.gpu[gpu], self.compute[gpu]

    def drop_node(self, node: NodeId) -> None:
        del self._nodes[node], self.host[node], self.cpu[node]


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
        self._tally = Tally(self._gpus, self._nodes)

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
        self._enter(replica.id, replica.model, holding(replica, self._gpu(replica.gpu).node))

    def reserve(
        self,
        replica: ReplicaId,
        model: ModelId,
        gpu: GpuId,
        gpu_bytes: int,
        host_bytes: int = 0,
        peers: tuple[GpuId, ...] = (),
    ) -> None:
        """Reserve, in place of the replica's earlier reservation. Raises OverCapacity, UnknownGpu, LedgerError."""
        self._enter(replica, model, Holding((gpu, *peers), self._gpu(gpu).node, gpu_bytes, host_bytes))

    def _enter(self, replica: ReplicaId, model: ModelId, wanted: Holding) -> None:
        if wanted.gpu_bytes < 0 or wanted.host_bytes < 0:
            raise LedgerError(f"replica {replica} cannot reserve a negative number of bytes")
        check_group(replica, wanted.gpus, self._gpus)
        before = self._entries.get(replica)
        self._tally.check(replica, wanted, before.holding if before else None)
        self.release(replica)
        gpus, node, gpu_bytes, host_bytes, compute_milli, cpu_milli = wanted
        self._entries[replica] = Entry(
            replica, model, gpus[0], node, gpu_bytes, host_bytes, gpus[1:], compute_milli, cpu_milli
        )
        self._tally.add(wanted)

    def release(self, replica: ReplicaId) -> Entry | None:
        """Give back what the replica has reserved; returns it, or None when there was nothing."""
        entry = self._entries.pop(replica, None)
        if entry is not None:
            self._tally.remove(entry.holding)
        return entry

    def put_node(self, node: Node) -> None:
        """A new node, or a changed one. Raises LedgerError when it does not take what is reserved of it."""
        before = self._nodes.get(node.id)
        more_bytes = node.host_bytes - (before.host_bytes if before else 0)
        more_milli = node.cpu_milli - (before.cpu_milli if before else 0)
        if before is not None and self._tally.host[node.id] + more_bytes < 0:
            reserved = size(self.reserved_host(node.id))
            raise LedgerError(f"{reserved} of node {node.id} are reserved: {size(node.host_bytes)} do not take them")
        if before is not None and node.cpu_milli and self._tally.cpu[node.id] + more_milli < 0:
            raise LedgerError(f"node {node.id} has replicas that {node.cpu_milli} thousandths of a core do not carry")
        self._tally.put_node(node, more_bytes, more_milli)

    def put_gpu(self, gpu: Gpu) -> None:
        """A new GPU, or a changed one. Raises UnknownNode, LedgerError when it does not take what is reserved of it."""
        if gpu.node not in self._nodes:
            raise UnknownNode(gpu.node)
        before = self._gpus.get(gpu.id)
        if before is not None and before.node != gpu.node:
            raise LedgerError(f"GPU {gpu.id} is on node {before.node}; node {gpu.node} cannot have it, too")
        more_bytes = gpu.memory_bytes - (before.memory_bytes if before else 0)
        more_milli = gpu.compute_milli - (before.compute_milli if before else 0)
        if before is not None and self._tally.gpu[gpu.id] + more_bytes < 0:
            reserved = size(self.reserved_gpu(gpu.id))
            raise LedgerError(f"{reserved} of GPU {gpu.id} are reserved: {size(gpu.memory_bytes)} do not take them")
        if before is not None and self._tally.compute[gpu.id] + more_milli < 0:
            raise LedgerError(f"GPU {gpu.id} has replicas that compute_milli {gpu.compute_milli} does not carry")
        self._tally.put_gpu(gpu, more_bytes, more_milli)

    def drop_gpu(self, gpu: GpuId) -> None:
        """It is gone. Raises UnknownGpu, LedgerError while something is reserved of it."""
        self._gpu(gpu)
        holders = sorted(entry.replica for entry in self._entries.values() if gpu in entry.holding.gpus)
        if holders:
            raise LedgerError(f"GPU {gpu} still has replicas: {', '.join(holders)}")
        self._tally.drop_gpu(gpu)

    def drop_node(self, node: NodeId) -> None:
        """It is gone. Raises UnknownNode, LedgerError while it has GPUs."""
        self._tally.free_host(node)
        gpus = sorted(gpu.id for gpu in self._gpus.values() if gpu.node == node)
        if gpus:
            raise LedgerError(f"node {node} still has GPUs: {', '.join(gpus)}")
        self._tally.drop_node(node)

    def free_gpu(self, gpu: GpuId) -> int:
        """Bytes of the GPU that nobody has reserved. Raises UnknownGpu."""
        return self._tally.free_gpu(gpu)

    def free_host(self, node: NodeId) -> int:
        """Bytes of host RAM for sleeping replicas that nobody has reserved. Raises UnknownNode."""
        return self._tally.free_host(node)

    def reserved_gpu(self, gpu: GpuId) -> int:
        """Raises UnknownGpu."""
        return self._gpu(gpu).memory_bytes - self._tally.gpu[gpu]

    def reserved_by(self, replica: ReplicaId) -> int:
        """Bytes of each of its GPUs; 0 where it has nothing reserved."""
        entry = self._entries.get(replica)
        return 0 if entry is None else entry.gpu_bytes

    def memory_of(self, gpu: GpuId) -> int:
        """Bytes that it has, reserved or not. Raises UnknownGpu."""
        return self._gpu(gpu).memory_bytes

    def reserved_host(self, node: NodeId) -> int:
        """Raises UnknownNode."""
        free_bytes = self._tally.free_host(node)
        return self._nodes[node].host_bytes - free_bytes

    def entries(self) -> tuple[Entry, ...]:
        """Every reservation, by replica id."""
        return tuple(self._entries[replica] for replica in sorted(self._entries))

    def get(self, replica: ReplicaId) -> Entry | None:
        return self._entries.get(replica)

    def copy(self) -> Ledger:
        """An independent ledger with the same reservations."""
        twin = Ledger(self._gpus.values(), self._nodes.values())
        for entry in self._entries.values():
            twin._entries[entry.replica] = entry
            twin._tally.add(entry.holding)
        return twin

    def _gpu(self, gpu: GpuId) -> Gpu:
        try:
            return self._gpus[gpu]
        except KeyError:
            raise UnknownGpu(gpu) from None


def check_group(replica: ReplicaId, gpus: tuple[GpuId, ...], known: dict[GpuId, Gpu]) -> None:
    """Raises UnknownGpu, and LedgerError when a tensor-parallel group spans nodes or lists a GPU twice."""
    for gpu in gpus:
        if gpu not in known:
            raise UnknownGpu(gpu)
    if len(gpus) > 1:
        if len(set(gpus)) < len(gpus):
            raise LedgerError(f"replica {replica} lists a GPU of its group twice: {', '.join(gpus)}")
        if len({known[gpu].node for gpu in gpus}) > 1:
            raise LedgerError(f"the GPUs of replica {replica} are on different nodes: {', '.join(gpus)}")
