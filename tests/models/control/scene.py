"""A controller in virtual time: a virtual fleet, a store that records, gateways played by the test."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from models.catalog.card import ModelCard
from models.catalog.footprint import Declared
from models.catalog.source import SourceError
from models.control.actions import Actions
from models.control.catalog import Entry
from models.control.content import Source
from models.control.controller import Controller
from models.control.history import Remembered
from models.control.messages import CatalogChanged, Ordered, Reported
from models.control.news import message_of
from models.control.onlooker import Onlooker
from models.control.recording import Line, Step
from models.control.recovery import recover
from models.control.world import World
from models.fleet.protocol import FleetEvent, FleetNode
from models.fleet.virtual import VirtualClock, VirtualFleet, settle
from models.store.records import (
    Command,
    CommandReply,
    ControlMeters,
    DecisionRecord,
    DemandReport,
    FleetRecord,
    ModelDemand,
    ModelRecord,
    ModelRoute,
    RouteTable,
)
from models.store.usage import GpuPicture
from packers.types import OWNED, Gpu, GpuId, ModelId, NodeId, PoolId, ReplicaId
from tests.packers.worlds import PLAIN

MIB = 1 << 20


@dataclass
class RecordingStore:
    fleet: FleetRecord | None = None
    routes: RouteTable = field(default_factory=lambda: RouteTable(version=0))
    decisions: list[DecisionRecord] = field(default_factory=list)
    pictures: list[GpuPicture] = field(default_factory=list)
    replies: list[CommandReply] = field(default_factory=list)
    broken: Exception | None = None
    record_broken: Exception | None = None
    past: Remembered | None = None
    shown: list[Step] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    catalog: tuple[ModelRecord, ...] = ()
    meters: ControlMeters = field(default_factory=ControlMeters)

    async def load(self) -> FleetRecord | None:
        return self.fleet

    async def write(
        self,
        fleet: FleetRecord,
        routes: RouteTable,
        catalog: tuple[ModelRecord, ...],
        decisions: tuple[DecisionRecord, ...],
        pictures: tuple[GpuPicture, ...] = (),
    ) -> None:
        if self.broken is not None:
            raise self.broken
        assert routes.version >= self.routes.version
        for gpu in fleet.gpus:
            assert 0 <= gpu.reserved_bytes <= gpu.memory_bytes
        self.fleet, self.routes, self.catalog = fleet, routes, catalog
        self.decisions += decisions
        self.pictures += pictures

    async def reply(self, reply: CommandReply) -> None:
        self.replies.append(reply)

    async def recall(self) -> Remembered | None:
        return self.past

    async def remember(self, past: Remembered) -> None:
        self.past = past

    async def meter(self, meters: ControlMeters) -> None:
        self.meters = meters

    async def show(self, step: Step) -> None:
        self.shown.append(step)

    async def record(self, lines: tuple[Line, ...]) -> None:
        if self.record_broken is not None:
            raise self.record_broken
        self.lines += lines


def card(model: str, mib: int, **more: object) -> ModelCard:
    declared = Declared(weights=mib * MIB, kv_cache=0, overhead=0, residue=0, host=mib * MIB)
    return ModelCard(model_id=model, model_source=model, declared=declared, **more)


def entry(of: ModelCard) -> Entry:
    return Entry(of, of.footprint(None), 1024, folder=of.model_source)


def fleet_node(
    gpus_mib: tuple[int, ...], host_mib: int = 4096, simulated: bool = True, name: str = "n", pool: PoolId = OWNED
) -> FleetNode:
    node = NodeId(name)
    gpus = tuple(
        Gpu(GpuId(f"{name}/gpu-{i}"), node, i, size * MIB, simulated=simulated, pool=pool)
        for i, size in enumerate(gpus_mib)
    )
    return FleetNode(id=node, address="127.0.0.1", host_bytes=host_mib * MIB, gpus=gpus, run_dir="/run/x")


class Scene:
    """``await scene.run(seconds)`` steps the controller every 10 ms; one gateway reports before each step."""

    def __init__(
        self,
        cards: list[ModelCard],
        gpus_mib: tuple[int, ...] = (100,),
        host_mib: int = 4096,
        *,
        simulated: bool = True,
        nodes: tuple[FleetNode, ...] = (),
    ) -> None:
        """``nodes``: in place of the one that the sizes describe."""
        self.policies = PLAIN
        self.clock = VirtualClock()
        self.node = nodes[0] if nodes else fleet_node(gpus_mib, host_mib, simulated)
        self.nodes = nodes or (self.node,)  # those that a controller finds when it begins
        self.fleet = VirtualFleet(self.nodes, self.clock)
        self.store = RecordingStore()
        self.cards = cards
        self.broken_sources: dict[str, str] = {}
        self.contents: dict[str, str] = {}  # model -> what its files are known by
        self.held: dict[str, float] = {}  # model -> since
        self.busy: dict[str, int] = {}  # replica -> requests in flight
        self.used: dict[str, float] = {}
        self.arrived: Counter[str] = Counter()
        self.gateway_alive = True
        self.gateway_version: int | None = None  # None: it always follows at once
        self._ids = itertools.count(1)
        self._commands = itertools.count(1)
        self.controller = self._controller()

    def _controller(self) -> Controller:
        async def check(of: ModelCard, node: NodeId) -> Source:
            inspect(of)
            return Source(Path(of.model_source), content(Path(of.model_source)))

        def inspect(of: ModelCard) -> None:
            if of.model_id in self.broken_sources:
                raise SourceError(self.broken_sources[of.model_id])

        def load(message: CatalogChanged) -> dict[ModelId, Entry]:
            return {ModelId(c.model_id): entry(c) for c in self.cards}

        def content(folder: Path) -> str:
            return self.contents.get(str(folder), "as it was")

        world = World.empty(self.nodes, {ModelId(c.model_id): entry(c) for c in self.cards})
        controller = Controller(
            world,
            Actions(self.fleet, check=check, logs=Path("/logs"), clock=self.clock),
            self.store,
            clock=self.clock,
            new_replica_id=lambda model: ReplicaId(f"{model}-{next(self._ids)}"),
            load_catalog=load,
            reread=entry,
            policies=self.policies,
            drain_timeout_s=5.0,
        )

        async def on_event(event: FleetEvent) -> None:
            controller.post(message_of(event))

        self.fleet.subscribe(on_event)
        self.onlooker = Onlooker(world, self.fleet, controller.post, inspect=inspect, clock=self.clock, content=content)
        return controller

    async def restart_controller(self, remembers: bool = False) -> int:
        """``remembers``: it was long enough ago that what the last one learned was written down."""
        await self.fleet.close()
        self.nodes = await self.fleet.nodes()
        before, self.controller = self.controller, self._controller()
        if remembers:
            now = self.clock()
            self.controller.world.history.recall(before.world.history.remembered(now), now)
        return await recover(self.controller, self.fleet, self.store.fleet, self.clock())

    def hold(self, model: str) -> None:
        self.held[model] = self.clock()
        self.arrived[model] += 1

    def order(
        self,
        verb: str,
        model: str | None = None,
        wait: bool = True,
        gpu: str | None = None,
        for_s: float = 0.0,
        dry_run: bool = False,
    ) -> str:
        command = Command(
            id=f"c{next(self._commands)}", verb=verb, model_id=model, wait=wait, gpu=gpu, for_s=for_s, dry_run=dry_run
        )
        self.controller.post(Ordered(command))
        return command.id

    def reply(self, command: str) -> CommandReply | None:
        return next((reply for reply in self.store.replies if reply.id == command), None)

    async def run(self, seconds: float, step_s: float = 0.01) -> None:
        for _ in range(round(seconds / step_s)):
            self._report()
            self.controller.step()
            await self.controller.flush()
            await self.controller.catch_up()
            await settle()
            self._serve()
            await self.clock.advance(step_s)

    def _report(self) -> None:
        if not self.gateway_alive:
            return
        now = self.clock()
        busy = dict(self.busy)
        in_flight = {c.model_id: sum(n for r, n in busy.items() if r.startswith(c.model_id)) for c in self.cards}
        names = self.held.keys() | self.used.keys() | in_flight.keys()
        version = self.store.routes.version if self.gateway_version is None else self.gateway_version
        models = {
            name: ModelDemand(
                in_flight=in_flight.get(name, 0),
                held=int(name in self.held),
                oldest_held_unix_s=self.held.get(name),
                last_request_unix_s=self.used.get(name, 0.0),
                arrived=self.arrived[name],
                finished=self.arrived[name] - int(name in self.held),
            )
            for name in names
        }
        report = DemandReport(worker="g", routes_version=version, sent_unix_s=now, models=models, replicas=busy)
        self.controller.post(Reported(report))

    def _serve(self) -> None:
        """What a gateway does with a new table: held requests go to ready replicas, or end with the failure."""
        for route in self.store.routes.models:
            if route.model_id in self.held and any(r.state == "ready" for r in route.replicas):
                del self.held[route.model_id]
                self.used[route.model_id] = self.clock()
            elif (failure := route.failure) is not None and route.model_id in self.held:
                told = failure.permanent or failure.at_unix_s >= self.held[route.model_id]
                self.held = {model: since for model, since in self.held.items() if model != route.model_id or not told}

    async def look(self, seconds: float = 0.05) -> None:
        """What the onlooker does every few seconds."""
        await self.onlooker.look()
        await self.run(seconds)

    def model(self, model: str) -> ModelRecord:
        return next(record for record in self.store.catalog if record.model_id == model)

    def route(self, model: str) -> ModelRoute:
        return next(route for route in self.store.routes.models if route.model_id == model)

    def states(self) -> dict[str, str]:
        return {
            replica.replica_id: replica.state for replica in (self.store.fleet.replicas if self.store.fleet else ())
        }

    def decided(self, *actions: str) -> list[DecisionRecord]:
        return [decision for decision in self.store.decisions if decision.action in actions]
