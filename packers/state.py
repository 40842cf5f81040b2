"""The world, kept up to date one fact at a time: what a Snapshot says, indexed so that deciding stays fast.

Whoever owns the loop (the controller, the simulator) owns its State and changes it as things happen; policies read it.
``State.of(snapshot)`` and ``State.snapshot`` are exact inverses, so that a recorded snapshot decides as the State did.

What happens at every request (``set_use``, ``set_demand``, ...) is only noted, and worked in when somebody looks:
however often a busy replica's numbers change between two decisions, it counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from packers.columns import Columns
from packers.guarantees import Guarantees
from packers.index import Index
from packers.ledger import LedgerError
from packers.limits import Surroundings
from packers.load import Load, ScaleMemory
from packers.outlook import Outlook
from packers.placement import Ask
from packers.residency.patience import overdue_after_s, turn_s
from packers.residency.prewarm import EVERY_S
from packers.scaling import stay_s
from packers.spots import Spots, ask_of
from packers.types import (
    Demand,
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
    ReplicaId,
    ReplicaState,
    Snapshot,
)
from packers.usage import Usage


class State:
    """Every method that changes it either succeeds or raises a LedgerError and changes nothing."""

    def __init__(self, gpus: Iterable[Gpu] = (), nodes: Iterable[Node] = (), pools: Iterable[Pool] = ()) -> None:
        """Raises UnknownNode when a GPU's node is not among ``nodes``, LedgerError for two things of one id."""
        self.index = Index()
        self.outlook = Outlook()
        self.surroundings = Surroundings()
        self.columns = Columns()
        self.spots = Spots()
        self.kept: dict[str, Any] = {}  # what deciders want to find again, by their own names
        self.swapped: dict[GpuId, float] = {}  # when replicas were last evicted there for others
        self._unseen: dict[str, set[GpuId]] = {"columns": set(), "spots": set(), "guarantees": set()}
        self._asks: dict[ModelId, Ask] = {}
        self._asks_version = 0
        self.gpus: dict[GpuId, Gpu] = self.index.gpus  # to read; changed by put_ and drop_
        self.nodes: dict[NodeId, Node] = self.index.nodes
        self.pools: dict[PoolId, Pool] = {}
        self.orphans: dict[ReplicaId, Replica] = {}  # living replicas of models that are in no catalog
        self._models: dict[ModelId, Model] = {}
        self._replicas: dict[ReplicaId, Replica] = {}
        # Noted, and worked in by ``settle``.
        self._uses: dict[ReplicaId, tuple[int, float]] = {}
        self._news: dict[ModelId, dict[str, Any]] = {}
        self._stale: set[ModelId] = set()
        for node in nodes:
            _must_be_new(node.id, self.nodes, "nodes")
            self.put_node(node)
        for gpu in gpus:
            _must_be_new(gpu.id, self.gpus, "GPUs")
            self.put_gpu(gpu)
        for pool in pools:
            self.put_pool(pool)

    @classmethod
    def of(cls, snapshot: Snapshot) -> State:
        """Raises LedgerError when the snapshot contradicts itself."""
        state = cls(snapshot.gpus, snapshot.nodes, snapshot.pools)
        state.put_guarantees(snapshot.guarantees)
        state.put_swapped(snapshot.swapped)
        for model in snapshot.models:
            state.put_model(model)
        for replica in snapshot.replicas:
            _must_be_new(replica.id, state._replicas, "replicas")
            state.put_replica(replica)
        return state

    def snapshot(self, snapshot_id: str, now_s: float) -> Snapshot:
        """The same, frozen. Its tuples are sorted by id."""
        self.settle()
        return Snapshot(
            id=snapshot_id,
            now_s=now_s,
            gpus=self.index.order,
            nodes=tuple(self.nodes[key] for key in sorted(self.nodes)),
            replicas=tuple(self._replicas[key] for key in sorted(self._replicas)),
            models=tuple(self._models[key] for key in sorted(self._models)),
            pools=tuple(self.pools[key] for key in sorted(self.pools)),
            guarantees=self.surroundings.guarantees.listed,
            swapped=tuple(sorted(self.swapped.items())),
        )

    def next_time_s(
        self, now_s: float, patience_s: float | None = None, prewarm: bool = False, rest_s: float = 0.0
    ) -> float | None:
        """The earliest time later than ``now_s`` at which time alone can make a decision say something new.

        ``patience_s``, ``prewarm``, ``rest_s``: as the policies have them. Autoscaling other than by demand, and
        residency policies whose worths drift, may change their minds at any time: ask for those every second or so
        while there is load.
        """
        self.settle()
        times = [self.outlook.next_time_s(now_s)]
        if patience_s is not None and self.outlook.wanting:
            times += self._patience_ends_s(now_s, patience_s)
        if rest_s and self.outlook.wanting:
            times += [at_s + rest_s for at_s in self.swapped.values()]
        if prewarm and any(self.index.asleep_on.values()):
            times.append(max(one.state_since_s for one in self._replicas.values()) + EVERY_S)
        return min((at_s for at_s in times if at_s is not None and at_s > now_s), default=None)

    def _patience_ends_s(self, now_s: float, patience_s: float) -> list[float]:
        """When needs become overdue, and when ready replicas have stayed for as long as they have to."""
        found = []
        for name in self.outlook.wanting:
            model = self._models[name]
            found.append(now_s + overdue_after_s(model, patience_s) - model.demand.oldest_wait_s)
        for one in self._replicas.values():
            if one.state is ReplicaState.READY and one.model in self._models:
                start_s = stay_s(self._models[one.model])
                stays_s = [start_s, 2 * start_s] if not one.in_flight else []
                found += [one.state_since_s + each_s for each_s in (*stays_s, turn_s(start_s, patience_s))]
        return [at_s for at_s in found if at_s > now_s]

    # What decisions look at besides the index

    def guarantees_now(self) -> Guarantees:
        found = self.surroundings.guarantees
        found.fit(self.index.order)
        found.forget(self._touched("guarantees"))
        return found

    def columns_now(self, priority: Callable[[Replica], int]) -> Columns:
        self.columns.refresh(self.index, priority, self._touched("columns"))
        return self.columns

    def spots_now(self, policy: str) -> Spots:
        asks = (self._asks_version, self._asks.values)
        self.spots.refresh(policy, self.index, self.pools.values(), asks, self._touched("spots"))
        return self.spots

    def _touched(self, onlooker: str) -> set[GpuId]:
        """The GPUs of which something has changed since ``onlooker`` asked last."""
        if self.index.touched:
            for unseen in self._unseen.values():
                unseen.update(self.index.touched)
            self.index.touched.clear()
        unseen, self._unseen[onlooker] = self._unseen[onlooker], set()
        return unseen

    # What there is

    @property
    def models(self) -> dict[ModelId, Model]:
        """To read; changed by ``put_model`` and ``drop_model``."""
        if self._news:
            self.settle()
        return self._models

    @property
    def replicas(self) -> dict[ReplicaId, Replica]:
        """To read; changed by ``put_replica`` and ``drop_replica``. A dead one stays until it is dropped."""
        if self._uses:
            self.settle()
        return self._replicas

    def put_gpu(self, gpu: Gpu) -> None:
        """A new GPU, or a changed one (cordoned). Its node has to be there already."""
        self.index.put_gpu(gpu)
        self.surroundings.survey(self.gpus.values(), self.pools)

    def put_node(self, node: Node) -> None:
        self.index.put_node(node)

    def put_guarantees(self, guarantees: Iterable[Guarantee]) -> None:
        """In place of those before. Those on GPUs that are not there have no effect."""
        self.surroundings.guarantees.put(guarantees)

    def put_swapped(self, swapped: Iterable[tuple[GpuId, float]]) -> None:
        """In place of what was said before."""
        self.swapped = dict(swapped)

    def put_pool(self, pool: Pool) -> None:
        self.pools[pool.id] = pool
        self.surroundings.survey(self.gpus.values(), self.pools)

    def drop_gpu(self, gpu: GpuId) -> None:
        """Raises LedgerError while replicas are on it."""
        self.index.drop_gpu(gpu)
        self.swapped.pop(gpu, None)
        self.surroundings.survey(self.gpus.values(), self.pools)

    def drop_node(self, node: NodeId) -> None:
        """Raises LedgerError while it has GPUs."""
        self.index.drop_node(node)

    def put_model(self, model: Model) -> None:
        """A new model, or a changed one (its demand, its usage, its card)."""
        self._news.pop(model.id, None)
        before = self._models.get(model.id)
        self._know(before, model)
        if before is not None and (before.pinned, before.priority) == (model.pinned, model.priority):
            self._models[model.id] = model
        else:
            self._recount(model.id, model)
        self._stale.add(model.id)

    def drop_model(self, model: ModelId) -> None:
        """Its replicas stay, as orphans."""
        if model in self._models:
            self._know(self._models[model], None)
            self._news.pop(model, None)
            self._recount(model, None)
            self._stale.discard(model)
            self.outlook.forget(model)

    def put_replica(self, replica: Replica) -> None:
        """A new replica, or a changed one. Raises LedgerError, and changes nothing, when it holds more than is free."""
        if replica.state is not ReplicaState.DEAD:
            self.index.check(replica)
        self.drop_replica(replica.id)
        self._replicas[replica.id] = replica
        self._stale.add(replica.model)
        if replica.state is not ReplicaState.DEAD:
            self._enter(replica)

    def drop_replica(self, replica: ReplicaId) -> None:
        self._uses.pop(replica, None)
        before = self._replicas.pop(replica, None)
        if before is not None and before.state is not ReplicaState.DEAD:
            self.index.leave(before)
            self.orphans.pop(replica, None)
            self._stale.add(before.model)

    # What changes at every request

    def set_use(self, replica: ReplicaId, in_flight: int, last_used_s: float) -> None:
        """Raises LedgerError for a replica that is not there."""
        if replica not in self._replicas:
            raise LedgerError(f"replica {replica!r} is not there; put_replica makes it known")
        self._uses[replica] = (in_flight, last_used_s)

    def set_demand(self, model: ModelId, demand: Demand) -> None:
        """Raises LedgerError for a model that is not there; so do the following."""
        self._note(model)["demand"] = demand

    def set_usage(self, model: ModelId, usage: Usage, load: Load) -> None:
        news = self._note(model)
        news["usage"], news["load"] = usage, load

    def set_memory(self, model: ModelId, scale_memory: ScaleMemory) -> None:
        self._note(model)["scale_memory"] = scale_memory

    def settle(self) -> None:
        """Work in what was noted. Done by whatever reads; it changes nothing that can be seen."""
        for name, news in self._news.items():
            self._models[name] = _changed(self._models[name], news)
            self._stale.add(name)
        self._news.clear()
        for replica, (in_flight, last_used_s) in self._uses.items():
            self._use(self._replicas[replica], in_flight, last_used_s)
        self._uses.clear()
        for name in self._stale:
            model = self._models.get(name)
            if model is not None:
                self.outlook.review(model, self.index.of_model.get(name, {}).values())
        self._stale.clear()

    def _know(self, before: Model | None, after: Model | None) -> None:
        """What of the card matters to the placement of others, too."""
        self.surroundings.know(before, after)
        if (before.groups if before is not None else ()) != (after.groups if after is not None else ()):
            self.surroundings.guarantees.forget()
        if after is None:
            if before is not None:
                del self._asks[before.id]
                self._asks_version += 1
        elif before is None or before.footprint is not after.footprint or after.id not in self._asks:
            ask = ask_of(after, after.footprint)
            if self._asks.get(after.id) != ask:
                self._asks[after.id] = ask
                self._asks_version += 1

    def _note(self, model: ModelId) -> dict[str, Any]:
        if model not in self._models:
            raise LedgerError(f"model {model!r} is not there; put_model makes it known")
        return self._news.setdefault(model, {})

    def _use(self, before: Replica, in_flight: int, last_used_s: float) -> None:
        if before.in_flight == in_flight and before.last_used_s == last_used_s:
            return
        after = _used(before, in_flight, last_used_s)
        self._replicas[after.id] = after
        if after.state is not ReplicaState.DEAD:
            self.index.use(before, after)
            self._stale.add(after.model)
            if after.id in self.orphans:
                self.orphans[after.id] = after

    def _enter(self, replica: Replica) -> None:
        self.index.enter(replica, self._pinned(replica))
        if replica.model not in self._models:
            self.orphans[replica.id] = replica

    def _pinned(self, replica: Replica) -> bool:
        model = self._models.get(replica.model)
        return replica.pinned or (model is not None and model.pinned)

    def _recount(self, name: ModelId, model: Model | None) -> None:
        """The model has come, gone, or has another word on its standing: its replicas count for something else."""
        mine = list(self.index.of_model.get(name, {}).values())
        for replica in mine:
            self.index.leave(replica)
            self.orphans.pop(replica.id, None)
        if model is None:
            del self._models[name]
        else:
            self._models[name] = model
        for replica in mine:
            self._enter(replica)


def _must_be_new(name: str, known: object, what: str) -> None:
    if name in known:  # type: ignore[operator]
        raise LedgerError(f"two {what} have the id {name!r}: it is listed twice; ids have to be unique in the cluster")


_SLOTS = [Model.__dict__[name] for name in Model.__slots__]
_COPIERS = [(slot.__get__, slot.__set__) for slot in _SLOTS]
_SETTERS = dict(zip(Model.__slots__, (slot.__set__ for slot in _SLOTS), strict=True))


def _changed(model: Model, news: dict[str, Any]) -> Model:
    """``dataclasses.replace``, which takes three times as long: this happens at every request."""
    twin = object.__new__(Model)
    for read, write in _COPIERS:
        write(twin, read(model))
    for name, value in news.items():
        _SETTERS[name](twin, value)
    return twin


def _used(one: Replica, in_flight: int, last_used_s: float) -> Replica:
    return Replica(
        one.id,
        one.model,
        one.gpu,
        one.state,
        one.footprint,
        in_flight,
        last_used_s,
        one.state_since_s,
        one.pinned,
        one.priority,
        one.draining_to,
        one.peers,
        one.replaces,
    )
