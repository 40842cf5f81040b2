"""A scene whose controllers keep their state in a real Redis, and come into office as they do in production."""

from __future__ import annotations

from functools import partial
from types import CoroutineType
from typing import ClassVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from models.catalog.card import ModelCard
from models.clock import SinceBoot
from models.control.controller import Controller
from models.control.fence import LeaseLost
from models.control.history import Remembered
from models.control.office import stay_in_office, take_office
from models.control.store import RedisControlStore
from models.control.takeover import take_over
from models.fleet.protocol import Superseded
from models.fleet.virtual import settle
from models.store.keys import Keys
from models.store.records import CommandReply, ControlMeters, DecisionRecord, FleetRecord, ModelRecord, RouteTable
from models.store.usage import GpuPicture
from tests.models.control.scene import RecordingStore, Scene

KEYS = Keys("t")


def never_begun(controller: Controller) -> None:
    """As when its process ends: what it was about to begin never happens."""
    for work in controller._work.take():
        assert isinstance(work, CoroutineType)
        if work.cr_frame is not None:
            work.cr_frame.f_locals["job"].close()
        work.close()


class KeptStore(RecordingStore):
    """Writes to Redis, and shows what is written there."""

    def __init__(self, real: RedisControlStore) -> None:
        super().__init__()
        self.real = real

    async def write(
        self,
        fleet: FleetRecord,
        routes: RouteTable,
        catalog: tuple[ModelRecord, ...],
        decisions: tuple[DecisionRecord, ...],
        pictures: tuple[GpuPicture, ...] = (),
    ) -> None:
        await self.real.write(fleet, routes, catalog, decisions, pictures)
        await super().write(fleet, routes, catalog, decisions, pictures)

    async def reply(self, reply: CommandReply) -> None:
        await self.real.reply(reply)
        await super().reply(reply)

    async def remember(self, past: Remembered) -> None:
        await self.real.remember(past)

    async def meter(self, meters: ControlMeters) -> None:
        await self.real.meter(meters)


class StoredScene(Scene):
    """One controller and its gateway. ``deposed``: why it has ended. ``all``: of a test, which ends them."""

    all: ClassVar[list[StoredScene]] = []

    def __init__(self, redis: Redis, cards: list[ModelCard], gpus_mib: tuple[int, ...] = (100,)) -> None:
        super().__init__(cards, gpus_mib)
        StoredScene.all.append(self)
        self.redis = redis
        self.deposed: LeaseLost | Superseded | None = None

    async def begin(self) -> int:
        """A new controller comes into office; how many replicas it adopts."""
        real = RedisControlStore(self.redis, KEYS, machine=lambda: SinceBoot("one boot", self.clock()))
        self.end()
        before = self.store
        self.store = KeptStore(real)
        self.store.decisions, self.store.replies, self.store.routes = before.decisions, before.replies, before.routes
        self.store.pictures = before.pictures
        self.controller = self._controller()
        self.controller._remain = partial(stay_in_office, real.fence, self.fleet)
        await take_office(real.fence, self.fleet)
        return await take_over(self.controller, real, self.fleet, self.clock(), SinceBoot("one boot", self.clock()))

    def end(self) -> None:
        never_begun(self.controller)

    @property
    def epoch(self) -> int:
        assert isinstance(self.store, KeptStore)
        return self.store.real.epoch

    def beside(self) -> StoredScene:
        """Another controller of the same world, which believes that it is the one; its gateways are the same."""
        other = StoredScene(self.redis, self.cards)
        other.clock, other.node, other.fleet = self.clock, self.node, self.fleet.beside()
        other._ids, other.store = self._ids, self.store
        return other

    async def run(self, seconds: float, step_s: float = 0.01) -> None:
        """As ``Controller.run``: what Redis does not take is tried again, and who is deposed ends."""
        for _ in range(round(seconds / step_s)):
            if self.deposed is None:
                await self._turn()
            await settle()
            self._serve()
            await self.clock.advance(step_s)

    async def _turn(self) -> None:
        controller = self.controller
        try:
            if controller._deposed is not None:
                raise controller._deposed
            self._report()
            controller.step()
            await controller.flush()
        except (LeaseLost, Superseded) as deposed:
            self.deposed = deposed
            self.end()
        except RedisError:
            pass
