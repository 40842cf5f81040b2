"""Where a model may go at all: types of GPUs, cordoned ones, nodes kept apart, and nodes that it would rather have.

1. Nothing new goes to a cordoned or closed GPU, nor to one whose name is not among the model's ``gpu_types``.
2. Two models of which one names the other in its ``anti_affinity`` share no node, nor do two replicas of a model that
   names itself. A sleeping replica is no neighbour: it becomes one when it wakes.
3. It would rather be on a node where a model of its ``affinity`` is; else on one that is ``near`` its weights.
4. A model with ``min_replicas`` or a priority above 0 would rather not be on GPUs that may be taken away.
5. Nothing goes to a GPU of which so much is guaranteed to others that it could not be there (``packers.guarantees``).
6. Where it could not be started lately it goes only when nowhere else can room be made (``packers.serve``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from packers.guarantees import Guarantees
from packers.index import Index
from packers.types import Gpu, GpuId, Model, ModelId, NodeId, Pool, PoolId, PoolKind, ReplicaState


@dataclass(frozen=True, slots=True)
class Limits:
    """``excluded``: nodes ruled out by anti-affinity; ``wanted`` and ``unwanted`` ones are preferences.

    ``avoided``: GPUs that are ruled out as long as there may be room elsewhere. ``barred``: those of which others are
    guaranteed so much that it could not be there.
    """

    types: tuple[str, ...] = ()
    excluded: frozenset[NodeId] = frozenset()
    wanted: frozenset[NodeId] = frozenset()
    unwanted: frozenset[NodeId] = frozenset()
    avoided: frozenset[GpuId] = frozenset()
    barred: frozenset[GpuId] = frozenset()

    def refusal(self, gpu: Gpu) -> str | None:
        """Why nothing may go there, whatever is free."""
        if gpu.cordoned:
            return "cordoned"
        if gpu.closed:
            return gpu.closed
        if self.types and gpu.name not in self.types:
            return f"not of type {' or '.join(self.types)}"
        if gpu.node in self.excluded:
            return "kept apart by anti_affinity"
        if gpu.id in self.barred:
            return "guaranteed to others"
        if gpu.id in self.avoided:
            return "a start failed there lately"
        return None

    def avoiding(self, gpus: Iterable[GpuId]) -> Limits:
        """The same without these GPUs."""
        return replace(self, avoided=frozenset(gpus))

    @property
    def none(self) -> bool:
        """Only cordoned and closed GPUs are ruled out."""
        return not self.types and not self.excluded and not self.avoided and not self.barred


NO_LIMITS = Limits()


def limits(model: Model, index: Index, surroundings: Surroundings, entered: dict[ModelId, set[NodeId]]) -> Limits:
    """``entered``: nodes to which the present decision brings models."""
    apart = surroundings.rivals.get(model.id)
    risky = surroundings.risky_nodes if model.min_replicas or model.priority > 0 else frozenset()
    barred = surroundings.guarantees.barred(model, index.order)
    if not (apart or model.anti_affinity or model.affinity or model.near or model.gpu_types or risky or barred):
        return NO_LIMITS
    excluded = frozenset(_nodes({*model.anti_affinity, *(apart or ())}, index, entered))
    wanted = frozenset(_nodes(model.affinity, index, entered)) or frozenset(model.near)
    return Limits(model.gpu_types, excluded, wanted, risky, barred=barred)


def _nodes(models: Iterable[ModelId], index: Index, entered: dict[ModelId, set[NodeId]]) -> Iterator[NodeId]:
    for model in models:
        yield from entered.get(model, ())
        for replica in index.of_model.get(model, {}).values():
            if replica.state is not ReplicaState.ASLEEP:
                yield index.gpus[replica.gpu].node


@dataclass(slots=True)
class Surroundings:
    """What limits depend on beside the replicas. ``rivals``: who names a model in its ``anti_affinity``;
    ``risky_nodes``: those with GPUs that may be taken away; ``rented``: pools that cost only while they are used."""

    rivals: dict[ModelId, set[ModelId]] = field(default_factory=dict)
    risky_nodes: frozenset[NodeId] = frozenset()
    rented: frozenset[PoolId] = frozenset()
    guarantees: Guarantees = field(default_factory=Guarantees)

    def know(self, before: Model | None, after: Model | None) -> None:
        """A model has come, changed, or gone (``after`` None)."""
        if before is not None:
            for other in before.anti_affinity:
                self.rivals[other].discard(before.id)
        if after is not None:
            for other in after.anti_affinity:
                self.rivals.setdefault(other, set()).add(after.id)

    def survey(self, gpus: Iterable[Gpu], pools: dict[PoolId, Pool]) -> None:
        self.rented = frozenset(pool.id for pool in pools.values() if pool.kind is not PoolKind.OWNED)
        risky = {pool.id for pool in pools.values() if pool.reclaims_per_hour > 0}
        self.risky_nodes = frozenset(gpu.node for gpu in gpus if gpu.pool in risky) if risky else frozenset()
