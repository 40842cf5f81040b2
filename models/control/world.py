"""The controller's picture of the world: what decisions are made from and what is written to Redis."""

from __future__ import annotations

import logging
import os
from collections import Counter
from dataclasses import dataclass, field, replace

from models.control.catalog import Entry
from models.control.census import Census, Replicas, Showing
from models.control.costs import UNKNOWN_TIER, WEIGHTS_TIERS
from models.control.demand import DemandBook, Traffic
from models.control.failures import FailureBook
from models.control.floors import FloorBook
from models.control.footprints import Judged, Revision
from models.control.history import History
from models.control.node_book import NodeBook, complaint
from models.control.occupancy import Occupancy
from models.control.pools import PoolBook
from models.control.reserved import Reserved
from models.control.tracked import Tracked
from models.fleet.protocol import FleetNode, NodeView, WeightsTier
from models.store.records import (
    ControlMeters,
    DefragRecord,
    FleetRecord,
    GpuRecord,
    ModelRecord,
    ModelRoute,
    NodeRecord,
    ReplicaRoute,
    Reservation,
)
from packers.ledger import Ledger
from packers.load import Aim
from packers.types import Gpu, GpuId, Model, ModelId, Node, NodeId, PoolKind, Replica, ReplicaState, Snapshot

log = logging.getLogger("roundhouse.control")
NEAR_BYTES = 2**30  # less is copied from node to node in about a second


@dataclass(slots=True)
class World:
    """Owned by the loop; nobody else changes it."""

    nodes: dict[NodeId, FleetNode]
    entries: dict[ModelId, Entry]
    ledger: Ledger
    replicas: Replicas = field(default_factory=Replicas)
    census: Census = field(default_factory=Census)
    occupancy: Occupancy = field(default_factory=Occupancy)
    demand: DemandBook = field(default_factory=DemandBook)
    failures: FailureBook = field(default_factory=FailureBook)
    history: History = field(default_factory=History)
    pools: PoolBook = field(default_factory=PoolBook)
    floors: FloorBook = field(default_factory=FloorBook)  # replicas that are kept for a while
    reserved: Reserved = field(default_factory=Reserved)
    swapped: dict[GpuId, float] = field(default_factory=dict)  # when replicas were last evicted there for others
    yard: NodeBook = field(default_factory=NodeBook)  # how the nodes stand
    cordoned: set[GpuId] = field(default_factory=set)  # being drained by an operator
    operator_wakes: dict[ModelId, float] = field(default_factory=dict)  # since when
    defrag: DefragRecord | None = None  # an operator's, the last one
    suspects: set[ModelId] = field(default_factory=set)  # failed a canary: to be started with no stored layout trusted
    tiers: dict[NodeId, dict[ModelId, WeightsTier]] = field(default_factory=dict)  # where weights are, as last seen
    used_bytes: dict[GpuId, int] = field(default_factory=dict)  # of real GPUs, by their driver
    routes_version: int = 0
    seq: int = 0
    now: float = 0.0  # Unix time of the step in progress
    config_error: str | None = None
    _traffic: dict[ModelId, Traffic] = field(default_factory=dict)  # that no step has seen
    _gpus: tuple[Gpu, ...] = ()
    _gpus_said: object = None  # what ``_gpus`` was made from

    @classmethod
    def empty(cls, nodes: tuple[FleetNode, ...], entries: dict[ModelId, Entry]) -> World:
        world = cls({}, entries, Ledger((), ()))
        for node in nodes:
            wrong = complaint(node, world.nodes.values())
            if wrong:
                log.error("node %s is not taken: %s", node.id, wrong)
                world.yard.refuse(node, wrong, world.now)
                continue
            world.nodes[node.id] = node
            world.ledger.put_node(as_node(node))
            for gpu in node.gpus:
                world.ledger.put_gpu(gpu)
            world.yard.put(node)
        return world

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """With what operators have said of them: their pools, and which are to be emptied."""
        said = (self.pools, frozenset(self.cordoned), self.yard.version, tuple(self.nodes.values()))
        if self._gpus_said != said:
            self._gpus, self._gpus_said = self._look_at_gpus(), said
        return self._gpus

    def _look_at_gpus(self) -> tuple[Gpu, ...]:
        return tuple(
            replace(
                gpu,
                pool=self.pools.pool_of(gpu),
                cordoned=gpu.id in self.cordoned or self.yard.empties(gpu.node),
                closed=self.yard.closed(gpu),
            )
            for node in self.nodes.values()
            for gpu in node.gpus
        )

    def of_model(self, model: ModelId) -> list[Tracked]:
        """Sorted by id."""
        return self.replicas.of_model(model)

    def saw(self, views: dict[NodeId, NodeView]) -> bool:
        """What was measured on the nodes; True when weights are elsewhere than before, which routes show."""
        before = {node: dict(tiers) for node, tiers in self.tiers.items()}
        for node, view in views.items():
            self.tiers[node] = {ModelId(model): tier for model, tier in view.tiers.items()}
            self.used_bytes.update({GpuId(gpu): used for gpu, used in view.used_bytes.items()})
        return self.tiers != before

    def weights_tier(self, model: ModelId, node: NodeId | None = None) -> WeightsTier | None:
        """Where a start would find its weights, on that node or on the best one; None: nobody has looked."""
        places = self.tiers.values() if node is None else (self.tiers.get(node, {}),)
        seen = min((tiers[model] for tiers in places if model in tiers), key=WEIGHTS_TIERS.index, default=None)
        if seen == "remote" and node is not None and self.weights_tier(model) != "remote":
            return "peer"
        entry = self.entries.get(model)
        if seen is None and entry is not None and not entry.folder and entry.card.is_remote:
            return "remote"
        return seen

    def is_simulated(self, gpu: GpuId) -> bool:
        return any(each.simulated for each in self.gpus if each.id == gpu)

    @property
    def simulated(self) -> bool:
        return any(gpu.simulated for gpu in self.gpus)

    def revision(self, entry: Entry) -> Revision:
        """What was measured of it holds as long as the card, the size of its weights and the kind of GPU stay."""
        said = entry.footprint
        kind = "simulated" if self.simulated else "real"
        return Revision(f"{entry.card.engine_hash}-{said.weights_bytes}-{said.overhead_bytes}-{kind}")

    def judged(self, entry: Entry) -> Judged:
        """What its next replica reserves: as the card says, corrected by what was measured."""
        return self.history.footprints.judged(self.revision(entry), entry.card.declared, entry.footprint)

    def refresh_use(self, now: float) -> None:
        """Note which replicas are in use, from the workers' reports.

        A model's last request counts for the one replica that gateways prefer at equal load, so that surplus ones age.
        """
        self.demand.expire(now)
        models, replicas = self.demand.take_changed()
        held = {model for model in models if self.demand.is_held(model)}
        changed = [self.replicas[replica] for replica in replicas if replica in self.replicas]
        self.census.touch(*held)
        self.census.hear((*(models - held), *(tracked.model for tracked in changed)), now)
        if not self.census.presses:
            self.census.take_some()
        # Whether somebody uses a replica decides about evicting it: that is known at once.
        in_flight = self.demand.in_flight
        flipped = {each.model for each in changed if bool(in_flight(each.id)) is not bool(each.in_flight)}
        for model in self.census.due(self.entries, now) | flipped | self._uncatalogued:
            self._refresh_use_of(model, now)

    @property
    def _uncatalogued(self) -> set[ModelId]:
        """Models that have left the catalog and still have replicas."""
        return self.replicas.models - self.entries.keys()

    def _refresh_use_of(self, model: ModelId, now: float) -> None:
        preferred = False
        for tracked in self.of_model(model):
            in_flight = self.demand.in_flight(tracked.id)
            if in_flight or tracked.in_flight:  # one that has just become idle was in use until now
                tracked.in_flight, tracked.last_used_s = in_flight, now
            ready = tracked.state is ReplicaState.READY
            if ready and not in_flight and not preferred:
                last_s = self.demand.last_request(model)
                if last_s > tracked.last_used_s:
                    tracked.last_used_s = last_s
            preferred |= ready

    def refresh_history(self, now: float) -> dict[ModelId, Traffic]:
        """Tell it what came and went; what did since the last step is given back."""
        self._take_traffic(now)
        taken, self._traffic = self._traffic, {}
        return taken

    def _take_traffic(self, now: float) -> None:
        traffic = self.demand.take_traffic(self.census.due(self.entries, now))
        self.history.take({model: seen for model, seen in traffic.items() if model in self.entries}, now, self._aim)
        for model, seen in traffic.items():
            self._traffic[model] = self._traffic.get(model, Traffic()) + seen

    def look_on(self, now: float) -> None:
        """Let some of the models that are due be looked at in the next snapshot, which no step has to wait for."""
        self.census.take_some()
        self.refresh_use(now)
        self._take_traffic(now)

    def _models_now(self, now: float) -> tuple[Model, ...]:
        def look(entry: Entry) -> Model:
            return self._as_model(entry, now)

        def age(model: Model) -> Model:
            asked = model.id in self.operator_wakes
            return replace(model, demand=self.demand.model(model.id, now, operator_wake=asked))

        return self.census.models(self.entries, look, age, self.replicas, now)

    def _aim(self, model: ModelId) -> Aim:
        asleep = any(tracked.state is ReplicaState.ASLEEP for tracked in self.of_model(model))
        return self.entries[model].aim(self.history, asleep=asleep, tier=self.weights_tier(model))

    def snapshot(self, now: float) -> Snapshot:
        return Snapshot(
            id=f"{self.seq}",
            now_s=now,
            gpus=self.gpus,
            nodes=tuple(as_node(node) for node in self.nodes.values()),
            replicas=self._replicas_now(),
            models=self._models_now(now),
            pools=self.pools.pools,
            guarantees=self.reserved.guarantees(self.gpus),
            swapped=tuple(sorted(self.swapped.items())),
        )

    def _as_model(self, entry: Entry, now: float) -> Model:
        asleep = any(tracked.state is ReplicaState.ASLEEP for tracked in self.of_model(entry.id))
        demand = self.demand.model(entry.id, now, operator_wake=entry.id in self.operator_wakes)
        tier = self.weights_tier(entry.id)
        self.history.observe(entry.id, demand, entry.aim(self.history, asleep=asleep, tier=tier), now)
        footprint = self.judged(entry).footprint
        floor = self.floors.least(entry.id, entry.card.min_replicas)
        retry_at_s = self.failures.retry_at(entry.id)
        groups = self.reserved.groups(entry.card)
        model = entry.as_model(
            demand, retry_at_s, self.history, footprint=footprint, tier=tier, floor=floor, groups=groups
        )
        avoid = self.failures.avoided(entry.id, self.gpus, now) if self.failures.failed_somewhere(entry.id) else ()
        near = self._near(entry.id) if len(self.nodes) > 1 and footprint.weights_bytes >= NEAR_BYTES else ()
        return replace(model, avoid=avoid, near=near) if avoid or near else model

    def _near(self, model: ModelId) -> tuple[NodeId, ...]:
        """Nodes that have its weights, where others have not; none that costs money, since copying costs none."""
        have = {node for node in self.nodes if self.tiers.get(node, {}).get(model, "remote") != "remote"}
        if len(have) == len(self.nodes):
            return ()
        rented = {pool.id for pool in self.pools.pools if pool.kind is not PoolKind.OWNED}
        paid = {gpu.node for gpu in self.gpus if gpu.pool in rented} if rented and have else set()
        return tuple(sorted(have - paid))

    def _replicas_now(self) -> tuple[Replica, ...]:
        return self.census.replicas(self.entries, self.replicas, _as_replica)

    def shown(self) -> Showing:
        """What gateways route by, and the catalog as operators see it."""
        self._replicas_now()  # finds those that have changed
        return self.census.shown(self.entries, lambda entry: (self._route(entry), self._model_record(entry)))

    def _route(self, entry: Entry) -> ModelRoute:
        mine = sorted(self.of_model(entry.id), key=lambda tracked: tracked.id)
        states = {tracked.state for tracked in mine}
        stopped = self.weights_tier(entry.id) or UNKNOWN_TIER
        tier = "gpu" if ReplicaState.READY in states else "host" if ReplicaState.ASLEEP in states else stopped
        serving = (ReplicaState.READY, ReplicaState.DRAINING)
        return ModelRoute(
            model_id=entry.id,
            aliases=tuple(entry.card.aliases),
            runtime=entry.card.runtime,
            tier=tier,
            replicas=tuple(
                ReplicaRoute(
                    replica_id=t.id,
                    endpoint=t.endpoint,
                    state=t.state.value,
                    slots=entry.slots,
                    node=t.node,
                    address=t.address,
                    memory_bytes=(held_bytes := self.ledger.reserved_by(t.id)),
                    gpu_share=held_bytes / self.ledger.memory_of(t.gpu),
                )
                for t in mine
                if t.state in serving
            ),
            failure=self.failures.told(entry.id),
            max_model_len=entry.max_model_len,
            created_unix_s=entry.created_unix_s,
            owned_by=entry.card.owned_by,
            capabilities=entry.capabilities,
            adapters=tuple(entry.card.adapters),
            start_estimate_s=self._start_estimate_s(entry.id, asleep=ReplicaState.ASLEEP in states),
            price={str(unit): price for unit, price in entry.card.price.items()},
        )

    def _start_estimate_s(self, model: ModelId, *, asleep: bool) -> float | None:
        """As measured from where it is now; what was only expected is no reason to send a caller away."""
        if asleep:
            return self.history.costs.median_s(model, "wake", "host")
        return self.history.costs.median_s(model, "start", self.weights_tier(model) or UNKNOWN_TIER)

    def draw(self) -> None:
        """Note what has changed on GPUs since the last call."""
        self.occupancy.look(self.gpus, self.replicas, self.ledger, self.entries, self.now)

    def close(self, now: float) -> None:
        """The service is being stopped."""
        self.now = now
        self.occupancy.close()

    def fleet_record(self, now: float) -> FleetRecord:
        held = Counter[GpuId]()
        for tracked in self.replicas.values():
            held[tracked.gpu] += tracked.holds_bytes
        return FleetRecord(
            seq=self.seq,
            updated_unix_s=now,
            controller_pid=os.getpid(),
            nodes=(*(self._node_record(node) for node in self.nodes.values()), *self.yard.lost_nodes()),
            gpus=(*(self._gpu_record(gpu, held[gpu.id]) for gpu in self.gpus), *self.yard.lost_gpus()),
            replicas=self.census.records(self.replicas),
            ledger=tuple(
                Reservation(
                    replica_id=entry.replica,
                    model_id=entry.model,
                    gpu=entry.gpu,
                    node=entry.node,
                    gpu_bytes=entry.gpu_bytes,
                    host_bytes=entry.host_bytes,
                )
                for entry in self.ledger.entries()
            ),
            routes_version=self.routes_version,
            warm=self.floors.records,
            defrag=self.defrag,
            config_error=self.config_error,
        )

    def _node_record(self, node: FleetNode) -> NodeRecord:
        record = NodeRecord(
            id=node.id,
            address=node.address,
            host_bytes=node.host_bytes,
            host_reserved_bytes=node.host_bytes - self.ledger.free_host(node.id),
            link_bytes_per_s=node.link_bytes_per_s,
        )
        return self.yard.node_record(record)

    def _gpu_record(self, gpu: Gpu, measured_bytes: int) -> GpuRecord:
        free = self.ledger.free_gpu(gpu.id)
        return GpuRecord(
            id=gpu.id,
            node=gpu.node,
            index=gpu.index,
            name=gpu.name,
            simulated=gpu.simulated,
            memory_bytes=gpu.memory_bytes,
            reserved_bytes=gpu.memory_bytes - free,
            free_bytes=free,
            cordoned=gpu.id in self.cordoned,
            closed=gpu.closed,
            pool=gpu.pool,
            measured_bytes=measured_bytes,
            used_bytes=self.used_bytes.get(gpu.id),
            kept=self.reserved.on(gpu.id),
        )

    def _model_record(self, entry: Entry) -> ModelRecord:
        return entry.as_record(
            self.failures.get(entry.id),
            judged=self.judged(entry),
            learned=self.history.footprints.get(self.revision(entry)),
            costs_s=self.history.costs.medians_s(entry.id),
            weights_tier=self.weights_tier(entry.id) or "",
            quarantined=self.history.meters.quarantined(entry.id),
        )

    def meters(self) -> ControlMeters:
        excess = {model: self.judged(entry).excess_bytes for model, entry in self.entries.items()}
        return self.history.meters.record({model: found for model, found in excess.items() if found})


def as_node(node: FleetNode) -> Node:
    return Node(node.id, node.host_bytes, link_bytes_per_s=node.link_bytes_per_s)


def _as_replica(tracked: Tracked, entry: Entry | None) -> Replica:
    card = entry.card if entry is not None else None
    return tracked.as_replica(pinned=bool(card and card.pinned), priority=card.priority if card else 0)
