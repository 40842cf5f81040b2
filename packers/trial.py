"""The scratch copy of the world in which one decision is tried out.

It keeps two ledgers. ``now`` is what is reserved at this moment: only what is free there may be started or woken into.
``soon`` is what will be reserved once everything on its way out is gone, plus what this decision promises to models
that wait for that. Memory that is free now but promised is not free: ``free_gpu`` is the smaller of the two.
"""

from __future__ import annotations

from packers.ledger import Ledger, holds, leaving, will_hold
from packers.scaling import Desired, desired_replicas, last_use_s
from packers.types import Gpu, GpuId, Model, ModelId, Replica, ReplicaId, ReplicaState, Snapshot


class Trial:
    """Sorted by id, so that the order in which the snapshot lists things changes nothing."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Raises LedgerError when the snapshot's replicas hold more than there is, or sit on unknown GPUs."""
        self.now_s = snapshot.now_s
        self.gpus = tuple(sorted(snapshot.gpus, key=lambda gpu: gpu.id))
        self.gpu = {gpu.id: gpu for gpu in self.gpus}
        self.models = {model.id: model for model in sorted(snapshot.models, key=lambda model: model.id)}
        self.now = Ledger.of(snapshot)
        self.soon = self.now.copy()
        alive = [one for one in snapshot.replicas if one.state is not ReplicaState.DEAD]
        self.replicas = tuple(sorted(alive, key=lambda one: (last_use_s(one), one.id)))
        self.on_gpu: dict[GpuId, list[Replica]] = {gpu.id: [] for gpu in self.gpus}
        self.of_model: dict[ModelId, list[Replica]] = {model: [] for model in self.models}
        # Sums per GPU that spare looking closely at most GPUs of a large cluster.
        self.idle_bytes = {gpu.id: 0 for gpu in self.gpus}  # an upper bound of what eviction can free
        self.pinned_bytes = {gpu.id: 0 for gpu in self.gpus}
        self._ready: dict[ModelId, int] = {}
        self.going: dict[ReplicaId, Replica] = {}  # leaves already, or by this decision
        self.taken: set[ReplicaId] = set()  # woken by this decision, or promised to be
        self.promised: dict[GpuId, list[ModelId]] = {}
        self.closed: set[GpuId] = set()  # nobody may be evicted there any more
        for replica in self.replicas:
            self._enter(replica)
        self.desired: dict[ModelId, Desired] = {
            model.id: desired_replicas(model, self.of_model[model.id], self.now_s) for model in self.models.values()
        }

    def _enter(self, replica: Replica) -> None:
        self.on_gpu[replica.gpu].append(replica)
        self.of_model.setdefault(replica.model, []).append(replica)
        if replica.state is ReplicaState.READY:
            self._ready[replica.model] = self.ready(replica.model) + 1
        if leaving(replica):
            self.going[replica.id] = replica
            self._settle(replica, *will_hold(replica))
        elif self.pinned(replica):
            self.pinned_bytes[replica.gpu] += holds(replica)[0]
        else:
            self.idle_bytes[replica.gpu] += self._idle_bytes(replica)

    # What is there

    def free_gpu(self, gpu: GpuId) -> int:
        """Bytes that may be used at once: free now, and promised to nobody."""
        return min(self.now.free_gpu(gpu), self.soon.free_gpu(gpu))

    def free_host(self, replica: Replica) -> int:
        """Bytes of host RAM on the replica's node that may be used at once."""
        node = self.gpu[replica.gpu].node
        return min(self.now.free_host(node), self.soon.free_host(node))

    def free_host_soon(self, replica: Replica) -> int:
        return self.soon.free_host(self.gpu[replica.gpu].node)

    def priority(self, replica: Replica) -> int:
        """The catalog's word counts; a replica of a model that is in no catalog any more has its own."""
        model = self.models.get(replica.model)
        return replica.priority if model is None else model.priority

    def pinned(self, replica: Replica) -> bool:
        model = self.models.get(replica.model)
        return replica.pinned or (model is not None and model.pinned)

    def ready(self, model: ModelId) -> int:
        """Replicas that serve and stay."""
        return self._ready.get(model, 0)

    def sleepers(self, model: ModelId, falling_asleep: bool = False) -> list[Replica]:
        """Replicas that can be woken; with ``falling_asleep`` also idle ones that drain towards sleep."""
        free = [one for one in self.of_model.get(model, []) if one.id not in self.taken]
        found = [one for one in free if one.state is ReplicaState.ASLEEP and one.id not in self.going]
        if falling_asleep:
            found += [one for one in free if falls_asleep(one) and one.in_flight == 0]
        return found

    def sleeper_on(self, model: Model, gpu: Gpu) -> Replica | None:
        """The sleeping replica of ``model`` that would be woken on ``gpu``: the one that needs the least for it."""
        here = [one for one in self.sleepers(model.id) if one.gpu == gpu.id]
        return min(here, key=lambda one: (wake_bytes(one), one.id), default=None)

    # What this decision does

    def start(self, model: Model, gpu: GpuId) -> None:
        name = self._fresh(f"start/{model.id}")
        for ledger in (self.now, self.soon):
            ledger.reserve(name, model.id, gpu, model.footprint.gpu_bytes)

    def promise(self, model: Model, gpu: GpuId) -> None:
        """Keep room for ``model`` once what leaves the GPU is gone."""
        self._promise(model, gpu, model.footprint.gpu_bytes)

    def close(self, model: Model, gpu: GpuId) -> None:
        """Keep whatever room there is or will be for ``model``, although it is not enough yet."""
        self._promise(model, gpu, self.soon.free_gpu(gpu))
        self.closed.add(gpu)

    def _promise(self, model: Model, gpu: GpuId, gpu_bytes: int) -> None:
        self.soon.reserve(self._fresh(f"promise/{model.id}"), model.id, gpu, gpu_bytes)
        self.promised.setdefault(gpu, []).append(model.id)

    def wake(self, replica: Replica) -> None:
        # The copy in host RAM counts until the snapshot says that it is gone.
        gpu_bytes, host_bytes = replica.footprint.gpu_bytes, replica.footprint.host_bytes
        self.now.reserve(replica.id, replica.model, replica.gpu, gpu_bytes, host_bytes)
        self.promise_wake(replica)

    def promise_wake(self, replica: Replica) -> None:
        self.soon.reserve(replica.id, replica.model, replica.gpu, replica.footprint.gpu_bytes)
        self.taken.add(replica.id)

    def sleep(self, replica: Replica) -> None:
        footprint = replica.footprint
        self.now.reserve(replica.id, replica.model, replica.gpu, footprint.gpu_bytes, footprint.host_bytes)
        self.sleep_later(replica)

    def sleep_later(self, replica: Replica) -> None:
        """It will sleep as soon as there is host RAM for it: until then it stays as it is."""
        self._leave(replica, replica.footprint.residue_bytes, replica.footprint.host_bytes)

    def stop(self, replica: Replica) -> None:
        self._leave(replica, 0, 0)

    def _leave(self, replica: Replica, gpu_bytes: int, host_bytes: int) -> None:
        self._settle(replica, gpu_bytes, host_bytes)
        self.going[replica.id] = replica
        self._ready[replica.model] = self.ready(replica.model) - (replica.state is ReplicaState.READY)
        if not self.pinned(replica):
            self.idle_bytes[replica.gpu] -= self._idle_bytes(replica)

    @staticmethod
    def _idle_bytes(replica: Replica) -> int:
        stays = replica.in_flight or replica.state is ReplicaState.STARTING
        return 0 if stays else holds(replica)[0]

    def _settle(self, replica: Replica, gpu_bytes: int, host_bytes: int) -> None:
        if gpu_bytes or host_bytes:
            self.soon.reserve(replica.id, replica.model, replica.gpu, gpu_bytes, host_bytes)
        else:
            self.soon.release(replica.id)

    def _fresh(self, name: str) -> ReplicaId:
        number = 1
        while self.soon.get(ReplicaId(f"{name}/{number}")) is not None:
            number += 1
        return ReplicaId(f"{name}/{number}")


def falls_asleep(replica: Replica) -> bool:
    return replica.state is ReplicaState.DRAINING and replica.draining_to is ReplicaState.ASLEEP


def wake_bytes(replica: Replica) -> int:
    """GPU bytes that waking it takes on top of what it left behind when it fell asleep."""
    return max(0, replica.footprint.gpu_bytes - replica.footprint.residue_bytes)
