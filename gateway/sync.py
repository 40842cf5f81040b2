"""The worker's two tasks with Redis: taking in routes and key changes, giving out demand. Redis may come and go."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from gateway.clock import Clock
from gateway.demand import Demand
from gateway.route_clock import by_this_clock
from gateway.route_reader import RouteReader
from gateway.routing import Routes
from gateway.tenancy_reader import TenancyReader
from models.store.codec import encode
from models.store.errors import StoreDataError
from models.store.keys import DEMAND_TTL_S, Keys

RELOAD_EVERY_S = 1.0
LOOK_EVERY_S = 0.5
STORE_TIMEOUT_S = 2.0
FIRST_LOOK_S = 1.0
RETRY_FIRST_S = 0.1
RETRY_LONGEST_S = 1.0
_DOWN = (RedisError, OSError, TimeoutError)

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class StoreHealth:
    """``known``: Redis answered at least once since this worker started."""

    known: bool = False
    up: bool = False

    def answered(self) -> None:
        if not self.up:
            log.info("redis answers")
        self.known = self.up = True

    def failed(self, error: BaseException) -> None:
        if self.up or not self.known:
            log.warning("redis does not answer; serving goes on with what is known", reason=type(error).__name__)
        self.up = False


@dataclass(slots=True)
class RouteWatcher:
    """Loads the route table when it is announced and once a second, tenants twice as often: a key that was revoked is
    refused within a second, also when the word of it was lost. Without Redis the last that was read stays in force."""

    redis: Redis
    keys: Keys
    routes: Routes
    health: StoreHealth
    on_routes: Callable[[], Awaitable[None]]
    on_keys_changed: Callable[[], None]
    tenancy: TenancyReader
    reader: RouteReader = field(default_factory=RouteReader)
    now_unix_s: Callable[[], float] = time.time
    looked: asyncio.Event = field(default_factory=asyncio.Event)

    async def first_look(self) -> None:
        """Return once Redis was asked for the first time, whatever came of it; a silent one is not waited for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK_S):
                await self.looked.wait()

    async def run(self) -> None:
        wait_s = RETRY_FIRST_S
        while True:
            try:
                async with self.redis.pubsub() as subscription:
                    await self._subscribe(subscription)
                    wait_s = RETRY_FIRST_S
                    await self._watch(subscription)
            except _DOWN as down:
                self.health.failed(down)
                self.looked.set()
            await asyncio.sleep(wait_s)
            wait_s = min(RETRY_LONGEST_S, wait_s * 2)

    async def _subscribe(self, subscription: PubSub) -> None:
        async with asyncio.timeout(STORE_TIMEOUT_S):
            channels = (self.keys.routes_channel, self.keys.api_keys_channel, self.keys.tenancy_channel)
            await subscription.subscribe(*channels)
        self.on_keys_changed()  # what was announced while nobody listened is lost
        await self.look_at_tenants()
        await self.load()

    async def _watch(self, subscription: PubSub) -> None:
        loop = asyncio.get_running_loop()
        look_at_s, reload_at_s = loop.time() + LOOK_EVERY_S, loop.time() + RELOAD_EVERY_S
        while True:
            left_s = max(0.0, min(look_at_s, reload_at_s) - loop.time())
            message = await subscription.get_message(ignore_subscribe_messages=True, timeout=left_s)
            channel = "" if message is None else _text(message["channel"])
            if channel == self.keys.api_keys_channel:
                self.on_keys_changed()
            if channel == self.keys.tenancy_channel or loop.time() >= look_at_s:
                await self.look_at_tenants()
                look_at_s = loop.time() + LOOK_EVERY_S
            if channel == self.keys.routes_channel or loop.time() >= reload_at_s:
                await self.load()
                reload_at_s = loop.time() + RELOAD_EVERY_S

    async def look_at_tenants(self) -> None:
        """Raises RedisError, TimeoutError. Keys have the same version."""
        async with asyncio.timeout(STORE_TIMEOUT_S):
            if await self.tenancy.look():
                self.on_keys_changed()

    async def load(self) -> None:
        async with asyncio.timeout(STORE_TIMEOUT_S):
            try:
                known = self.routes.version if self.routes.loaded else None
                table = await self.reader.newest(self.redis, self.keys.routes, known)
            except StoreDataError as broken:
                log.error("the route table cannot be read; the last one stays in force", reason=str(broken))
                table = None
        self.health.answered()
        if table is not None and self.routes.offer(by_this_clock(table, self.now_unix_s())):
            log.info("routes", version=table.version, models=len(table.models))
            await self.on_routes()
        self.looked.set()


@dataclass(slots=True)
class DemandPublisher:
    """Writes this worker's demand report and announces it, at the pace that ``Demand`` asks for."""

    redis: Redis
    keys: Keys
    worker: str
    demand: Demand
    routes: Routes
    clock: Clock
    news: asyncio.Event

    async def run(self) -> None:
        while True:
            await self._until_due()
            try:
                await self.publish()
            except _DOWN:
                # The watcher tells about it; the report that is due goes out as soon as Redis is back.
                self.demand.pace.urgent = True
                await asyncio.sleep(RETRY_FIRST_S)

    async def publish(self) -> None:
        # What changes while Redis is being told belongs to the next report.
        self.demand.pace.sent(self.clock.monotonic())
        report = self.demand.report(self.worker, self.routes.version, self.clock.steady())
        async with asyncio.timeout(STORE_TIMEOUT_S), self.redis.pipeline(transaction=False) as pipe:
            written = encode(report)
            pipe.set(self.keys.demand(self.worker), written, px=int(DEMAND_TTL_S * 1000))
            pipe.publish(self.keys.demand_channel, written)  # who has to ask for it would act a round trip later
            await pipe.execute()

    async def withdraw(self) -> None:
        """This worker ends: nobody need wait for its report to expire."""
        last = self.demand.report(self.worker, self.routes.version, self.clock.steady())
        last = msgspec.structs.replace(last, models={}, replicas={})
        with contextlib.suppress(*_DOWN):
            async with asyncio.timeout(STORE_TIMEOUT_S), self.redis.pipeline(transaction=False) as pipe:
                pipe.delete(self.keys.demand(self.worker))
                pipe.publish(self.keys.demand_channel, encode(last))
                await pipe.execute()

    async def _until_due(self) -> None:
        while (left_s := self.demand.pace.due_s() - self.clock.monotonic()) > 0:
            self.news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self.news.wait()


def _text(channel: bytes | str) -> str:
    return channel.decode() if isinstance(channel, bytes) else channel
