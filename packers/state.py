"""The world, kept up to date one fact at a time: what a Snapshot says, indexed so that deciding stays fast.

Whoever owns the loop (the controller, the simulator) owns its State and changes it as things happen; policies read it.
``State.of(snapshot)`` and ``State.snapshot`` are exact inverses, so that a recorded snapshot decides as the State did.
"""

from __future__ import annotations

from collections.abc import Iterable

from packers.types import Gpu, GpuId, Model, ModelId, Node, NodeId, Pool, PoolId, Replica, ReplicaId, Snapshot


class State:
    def __init__(self, gpus: Iterable[Gpu] = (), nodes: Iterable[Node] = (), pools: Iterable[Pool] = ()) -> None:
        self.gpus: dict[GpuId, Gpu] = {gpu.id: gpu for gpu in gpus}
        self.nodes: dict[NodeId, Node] = {node.id: node for node in nodes}
        self.pools: dict[PoolId, Pool] = {pool.id: pool for pool in pools}
        self.models: dict[ModelId, Model] = {}
        self.replicas: dict[ReplicaId, Replica] = {}

    @classmethod
    def of(cls, snapshot: Snapshot) -> State:
        """Raises LedgerError when the snapshot contradicts itself."""
        state = cls(snapshot.gpus, snapshot.nodes, snapshot.pools)
        for model in snapshot.models:
            state.put_model(model)
        for replica in snapshot.replicas:
            state.put_replica(replica)
        return state

    def snapshot(self, snapshot_id: str, now_s: float) -> Snapshot:
        return Snapshot(
            id=snapshot_id,
            now_s=now_s,
            gpus=tuple(self.gpus[key] for key in sorted(self.gpus)),
            nodes=tuple(self.nodes[key] for key in sorted(self.nodes)),
            replicas=tuple(self.replicas[key] for key in sorted(self.replicas)),
            models=tuple(self.models[key] for key in sorted(self.models)),
            pools=tuple(self.pools[key] for key in sorted(self.pools)),
        )

    def put_model(self, model: Model) -> None:
        """A new model, or a changed one (its demand, its usage, its card)."""
        self.models[model.id] = model

    def drop_model(self, model: ModelId) -> None:
        self.models.pop(model, None)

    def put_replica(self, replica: Replica) -> None:
        """A new replica, or a changed one. Raises LedgerError, and changes nothing, when it holds more than is free."""
        self.replicas[replica.id] = replica

    def drop_replica(self, replica: ReplicaId) -> None:
        self.replicas.pop(replica, None)

    def put_gpu(self, gpu: Gpu) -> None:
        """A new GPU, or a changed one (cordoned). Its node has to be there already."""
        self.gpus[gpu.id] = gpu

    def put_node(self, node: Node) -> None:
        self.nodes[node.id] = node

    def drop_gpu(self, gpu: GpuId) -> None:
        self.gpus.pop(gpu, None)

    def drop_node(self, node: NodeId) -> None:
        self.nodes.pop(node, None)
