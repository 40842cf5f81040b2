"""Who is where: replicas by GPU, by model and by node, and what they hold, kept up to date one change at a time."""

from __future__ import annotations

from dataclasses import dataclass

from packers.ledger import (
    Holding,
    LedgerError,
    Tally,
    UnknownNode,
    check_group,
    holding,
    leaving,
    will_hold,
)
from packers.scaling import last_use_s
from packers.types import Gpu, GpuId, ModelId, Node, NodeId, Replica, ReplicaId, ReplicaState


@dataclass(frozen=True, slots=True)
class Held:
    """What one replica counts for: its share of the two tallies and of the sums per GPU."""

    now: Holding
    soon: Holding
    leaves: bool
    pinned_bytes: int
    idle_bytes: int


class Index:
    """Of the living replicas. ``now`` is what is free at this moment, ``soon`` once everything on its way out is gone.

    ``idle_bytes`` of a GPU bound what evictions can free there, ``pinned_bytes`` what none can. ``touched``: GPUs of
    which something has changed since somebody last looked.
    """

    def __init__(self) -> None:
        self.gpus: dict[GpuId, Gpu] = {}
        self.nodes: dict[NodeId, Node] = {}
        self.touched: set[GpuId] = set()
        self.now = Tally({}, {}, self.touched)
        self.soon = Tally({}, {}, self.touched)
        self.of_model: dict[ModelId, dict[ReplicaId, Replica]] = {}
        self.asleep_on: dict[NodeId, dict[ReplicaId, Replica]] = {}
        self.leaving: dict[ReplicaId, Replica] = {}
        self.ready: dict[ModelId, int] = {}
        self.idle_bytes: dict[GpuId, int] = {}
        self.pinned_bytes: dict[GpuId, int] = {}
        self._on_gpu: dict[GpuId, dict[ReplicaId, Replica]] = {}
        self._sorted: dict[GpuId, list[Replica]] = {}
        self._idle: dict[GpuId, list[tuple[Replica, int, float]]] = {}
        self._held: dict[ReplicaId, Held] = {}
        self.cordoned: set[GpuId] = set()
        self.substitutes: dict[ReplicaId, Replica] = {}  # those started in place of another
        self.nodes_version = 0
        self._order: tuple[Gpu, ...] | None = None
        self._of_node: dict[NodeId, list[Gpu]] = {}
        self._largest_bytes: int | None = None

    # GPUs and nodes

    def put_node(self, node: Node) -> None:
        before = self.nodes.get(node.id)
        host_bytes = node.host_bytes - (before.host_bytes if before else 0)
        cpu_milli = node.cpu_milli - (before.cpu_milli if before else 0)
        if before is not None:
            if self.now.host[node.id] + host_bytes < 0:
                raise LedgerError(
                    f"node {node.id} holds sleeping replicas that {node.host_bytes} host bytes do not take"
                )
            if node.cpu_milli and self.now.cpu[node.id] + cpu_milli < 0:
                raise LedgerError(
                    f"node {node.id} has replicas that {node.cpu_milli} thousandths of a core do not carry"
                )
        for tally in (self.now, self.soon):
            tally.put_node(node, host_bytes, cpu_milli)
        self.nodes[node.id] = node
        self.nodes_version += 1
        self.asleep_on.setdefault(node.id, {})

    def put_gpu(self, gpu: Gpu) -> None:
        before = self.gpus.get(gpu.id)
        if gpu.node not in self.nodes:
            raise UnknownNode(gpu.node)
        if before is not None and before.node != gpu.node and self._on_gpu[gpu.id]:
            raise LedgerError(f"GPU {gpu.id} has replicas and cannot move from node {before.node} to {gpu.node}")
        gpu_bytes = gpu.memory_bytes - (before.memory_bytes if before else 0)
        compute_milli = gpu.compute_milli - (before.compute_milli if before else 0)
        if before is not None:
            if self.now.gpu[gpu.id] + gpu_bytes < 0:
                raise LedgerError(f"{gpu.memory_bytes} bytes do not take the replicas of GPU {gpu.id}")
            if self.now.compute[gpu.id] + compute_milli < 0:
                raise LedgerError(f"compute_milli {gpu.compute_milli} does not carry the replicas of GPU {gpu.id}")
        for tally in (self.now, self.soon):
            tally.put_gpu(gpu, gpu_bytes, compute_milli)
        self.gpus[gpu.id] = gpu
        (self.cordoned.add if gpu.cordoned else self.cordoned.discard)(gpu.id)
        self._order = self._largest_bytes = None
        self.touched.add(gpu.id)
        if before is None:
            self._on_gpu[gpu.id] = {}
            self.idle_bytes[gpu.id] = self.pinned_bytes[gpu.id] = 0

    def drop_gpu(self, gpu: GpuId) -> None:
        if gpu not in self.gpus:
            return
        if self._on_gpu[gpu]:
            raise LedgerError(f"GPU {gpu} still has replicas: {', '.join(sorted(self._on_gpu[gpu]))}")
        del self.gpus[gpu], self._on_gpu[gpu], self.idle_bytes[gpu], self.pinned_bytes[gpu]
        self.cordoned.discard(gpu)
        for tally in (self.now, self.soon):
            tally.drop_gpu(gpu)
        self._sorted.pop(gpu, None)
        self._idle.pop(gpu, None)
        self.touched.discard(gpu)
        self._order = self._largest_bytes = None

    def drop_node(self, node: NodeId) -> None:
        if node not in self.nodes:
            return
        mine = sorted(gpu.id for gpu in self.gpus.values() if gpu.node == node)
        if mine:
            raise LedgerError(f"node {node} still has GPUs: {', '.join(mine)}")
        del self.nodes[node], self.asleep_on[node]
        self.nodes_version += 1
        for tally in (self.now, self.soon):
            tally.drop_node(node)

    @property
    def order(self) -> tuple[Gpu, ...]:
        """The GPUs by id."""
        if self._order is None:
            self._order = tuple(self.gpus[gpu] for gpu in sorted(self.gpus))
            self._of_node = {}
            for gpu in self._order:
                self._of_node.setdefault(gpu.node, []).append(gpu)
        return self._order

    def of_node(self, node: NodeId) -> list[Gpu]:
        """The GPUs of a node by id. Not to be changed."""
        return self._of_node.get(node, []) if self.order else []

    @property
    def largest_bytes(self) -> int:
        """Of the GPU with the most memory; 0 without any."""
        if self._largest_bytes is None:
            self._largest_bytes = max((gpu.memory_bytes for gpu in self.gpus.values()), default=0)
        return self._largest_bytes

    # Replicas

    def check(self, replica: Replica) -> None:
        """Raises LedgerError when it does not fit in place of what it holds at present."""
        check_group(replica.id, replica.gpus, self.gpus)
        before = self._held.get(replica.id)
        wanted = holding(replica, self.gpus[replica.gpu].node)
        self.now.check(replica.id, wanted, before.now if before else None)

    def enter(self, replica: Replica, pinned: bool) -> None:
        """A living replica that is not entered yet and fits."""
        node = self.gpus[replica.gpu].node
        now = holding(replica, node)
        leaves = leaving(replica)
        soon = Holding(now.gpus, node, *will_hold(replica)) if leaves else now
        pinned_bytes = now.gpu_bytes if pinned and not leaves else 0
        held = Held(now, soon, leaves, pinned_bytes, _idle_bytes(replica, now.gpu_bytes, leaves or pinned))
        self._held[replica.id] = held
        self.now.add(now)
        self.soon.add(soon)
        self._list(replica, held)
        if replica.state is ReplicaState.READY:
            self.ready[replica.model] = self.ready.get(replica.model, 0) + 1
        for gpu in now.gpus:
            self.idle_bytes[gpu] += held.idle_bytes
            self.pinned_bytes[gpu] += held.pinned_bytes

    def leave(self, replica: Replica) -> None:
        """Forget the replica, which is entered just as it is given here."""
        held = self._held.pop(replica.id)
        self.now.remove(held.now)
        self.soon.remove(held.soon)
        self._unlist(replica, held)
        if replica.state is ReplicaState.READY:
            self.ready[replica.model] -= 1
        for gpu in held.now.gpus:
            self.idle_bytes[gpu] -= held.idle_bytes
            self.pinned_bytes[gpu] -= held.pinned_bytes

    def use(self, before: Replica, after: Replica) -> None:
        """Only ``in_flight`` and ``last_used_s`` have changed."""
        held = self._held[after.id]
        if bool(before.in_flight) != bool(after.in_flight):
            idle_bytes = _idle_bytes(after, held.now.gpu_bytes, held.leaves or held.pinned_bytes > 0)
            for gpu in held.now.gpus:
                self.idle_bytes[gpu] += idle_bytes - held.idle_bytes
            held = Held(held.now, held.soon, held.leaves, held.pinned_bytes, idle_bytes)
            self._held[after.id] = held
            self.touched.update(held.now.gpus)
        elif held.idle_bytes:
            self.touched.update(held.now.gpus)
        self._list(after, held)

    def held(self, replica: ReplicaId) -> Held:
        return self._held[replica]

    def on_gpu(self, gpu: GpuId) -> list[Replica]:
        """The replicas there, longest unused first. Not to be changed."""
        found = self._sorted.get(gpu)
        if found is None:
            found = sorted(self._on_gpu[gpu].values(), key=lambda one: (last_use_s(one), one.id))
            self._sorted[gpu] = found
        return found

    def idle_on(self, gpu: GpuId) -> list[tuple[Replica, int, float]]:
        """Those that an eviction could free bytes of, with how many and when they were last used. Not to be changed."""
        found = self._idle.get(gpu)
        if found is None:
            held = ((one, self._held[one.id].idle_bytes) for one in self.on_gpu(gpu))
            found = [(one, idle_bytes, last_use_s(one)) for one, idle_bytes in held if idle_bytes]
            self._idle[gpu] = found
        return found

    def _list(self, replica: Replica, held: Held) -> None:
        for gpu in held.now.gpus:
            self._on_gpu[gpu][replica.id] = replica
            self._sorted.pop(gpu, None)
            self._idle.pop(gpu, None)
        self.of_model.setdefault(replica.model, {})[replica.id] = replica
        if replica.replaces is not None:
            self.substitutes[replica.id] = replica
        if held.leaves:
            self.leaving[replica.id] = replica
        elif replica.state is ReplicaState.ASLEEP:
            self.asleep_on[held.now.node][replica.id] = replica

    def _unlist(self, replica: Replica, held: Held) -> None:
        for gpu in held.now.gpus:
            del self._on_gpu[gpu][replica.id]
            self._sorted.pop(gpu, None)
            self._idle.pop(gpu, None)
        mine = self.of_model[replica.model]
        del mine[replica.id]
        if not mine:
            del self.of_model[replica.model]
        self.leaving.pop(replica.id, None)
        self.substitutes.pop(replica.id, None)
        self.asleep_on[held.now.node].pop(replica.id, None)


def _idle_bytes(replica: Replica, gpu_bytes: int, stays: bool) -> int:
    return 0 if stays or replica.in_flight or replica.state is ReplicaState.STARTING else gpu_bytes
