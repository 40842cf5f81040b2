"""The controller as a detached Ray actor: Ray starts it again when it dies, and it takes over what lives."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import sys
import time
from functools import partial

from models.catalog.footprint import CUDA, SIMULATED
from models.catalog.service import ServiceConfig
from models.catalog.watch import ConfigWatcher, Rejected
from models.clock import SteadyClock
from models.control.actions import Actions
from models.control.catalog import CatalogReader, Entry
from models.control.controller import Controller
from models.control.decision_export import DecisionExport
from models.control.demand import DemandBook
from models.control.fetching import SourceDesk
from models.control.listeners import listen_commands, listen_demand, watch_config
from models.control.messages import CatalogChanged, Message
from models.control.news import message_of
from models.control.office import deposed, stay_in_office, take_office
from models.control.onlooker import Onlooker
from models.control.pools import PoolBook
from models.control.reserved import Reserved
from models.control.settings import ControlSettings
from models.control.store import RedisControlStore
from models.control.supplier import Supplier
from models.control.takeover import move_into_store, take_over
from models.control.world import World
from models.fleet import node_file
from models.fleet.protocol import FleetEvent
from models.fleet.ray_fleet import RayFleet
from models.home import Home, node_name
from models.store.client import connect_async
from models.store.keys import Keys
from packers.types import ModelId, NodeId, ReplicaId

log = logging.getLogger("roundhouse.control")


def new_replica_id(model: ModelId) -> ReplicaId:
    """Short, unique, recognisable; also the name of its sockets, so of limited length."""
    stem = "".join(c if c.isalnum() or c == "-" else "-" for c in model)[-20:].strip("-")
    return ReplicaId(f"{stem}-{secrets.token_hex(3)}")


class ControllerActor:
    def __init__(self, settings: ControlSettings) -> None:
        logging.basicConfig(
            stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s"
        )
        self._settings = settings
        self._home = Home.find(settings.home)
        self._here = NodeId(node_file.read(self._home.node_file, otherwise=node_name()).name)
        self._clock = SteadyClock()
        self._ready = asyncio.Event()
        self._problem: BaseException | None = None
        self._fleet: RayFleet | None = None
        self._controller: Controller | None = None
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def ready(self) -> int:
        """Wait until the state is back; the process id. Raises what kept the controller from starting."""
        await self._ready.wait()
        if self._problem is not None:
            raise self._problem
        return os.getpid()

    async def shutdown(self) -> int:
        """Stop deciding, end every engine, and leave an empty world behind; how many engines there were."""
        self._task.cancel()
        if self._controller is None or self._fleet is None:
            return 0
        ended = await self._fleet.stop_all()
        await self._fleet.close()
        await self._controller.leave()
        return ended

    async def _run(self) -> None:
        try:
            await self._serve()
        except asyncio.CancelledError:
            raise
        except BaseException as problem:
            if deposed(problem):
                log.error("another controller has taken over; this one ends: %s", problem)
                os._exit(0)
            log.exception("the controller could not start")
            self._problem = problem
            self._ready.set()

    async def _serve(self) -> None:
        settings = self._settings
        redis, keys = connect_async(settings.redis_url), Keys(settings.redis_prefix)
        store = RedisControlStore(redis, keys)
        watcher = ConfigWatcher(settings.config_path)
        outcome = watcher.poll(time.monotonic())
        if isinstance(outcome, Rejected) or watcher.config is None:
            raise outcome.error if isinstance(outcome, Rejected) else RuntimeError("no configuration was read")
        config = watcher.config
        simulated = settings.simulated(config)
        self._fleet = fleet = await RayFleet(settings.home, simulated, config.host_memory).open()
        defaults = SIMULATED if simulated is not None else CUDA
        reader = CatalogReader(settings.config_path.parent, self._home.weights, defaults)
        world = World.empty(await fleet.nodes(), reader.entries(config.models))
        world.demand, world.pools = DemandBook(self._clock()), PoolBook.of(config.pools)
        world.reserved = Reserved(config.reservations)
        self._export = DecisionExport(redis, keys, settings.config_path.parent)
        self._export.configure(config.decisions)
        self._controller = controller = self._build(world, fleet, store, config, reader)
        await move_into_store(redis, keys, self._home.cluster_id, self._clock())
        await take_office(store.fence, fleet)
        adopted = await take_over(controller, store, fleet, self._clock())
        fleet.subscribe(self._on_event)
        log.info(
            "controller ready: %d models, %d GPUs, %d replicas re-adopted", len(world.entries), len(world.gpus), adopted
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listen_demand(redis, keys, store, controller.post))
            tasks.create_task(listen_commands(redis, keys, store, watcher, controller.post))
            tasks.create_task(watch_config(watcher, controller.post))
            tasks.create_task(Onlooker(world, fleet, controller.post, inspect=reader.inspect, clock=self._clock).run())
            tasks.create_task(self._export.run())
            tasks.create_task(controller.run())
            self._ready.set()

    def _build(
        self, world: World, fleet: RayFleet, store: RedisControlStore, config: ServiceConfig, reader: CatalogReader
    ) -> Controller:
        supplier = Supplier(fleet, lambda: list(world.nodes))
        sources = SourceDesk(reader, post=self._post, supplier=supplier, here=self._here)
        sources.configure(config.weights)

        def load_catalog(message: CatalogChanged) -> dict[ModelId, Entry]:
            sources.configure(message.config.weights)
            self._export.configure(message.config.decisions)
            return reader.entries(message.config.models)

        return Controller(
            world,
            Actions(fleet, check=sources.check, logs=self._home.engine_logs, clock=self._clock),
            store,
            clock=self._clock,
            wall=self._clock.wall,
            new_replica_id=new_replica_id,
            load_catalog=load_catalog,
            load_policies=lambda message: (message.config.policies.policies(), PoolBook.of(message.config.pools)),
            reread=reader.entry,
            policies=config.policies.policies(),
            drain_timeout_s=config.drain_timeout,
            remain=partial(stay_in_office, store.fence, fleet),
        )

    def _post(self, message: Message) -> None:
        assert self._controller is not None
        self._controller.post(message)

    async def _on_event(self, event: FleetEvent) -> None:
        self._post(message_of(event))
