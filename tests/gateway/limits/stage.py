"""A stage for limits: the real script on a real Redis, workers and their time in the hands of the test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, cast

import redis
from redis.asyncio import Redis

from gateway.accounts import Account, Placed
from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.inquiry import Caller
from gateway.limits.limiter import Hold, Limiter
from gateway.limits.needs import Need, Used
from models.store.keys import Keys
from models.store.records import KeyRecord, ModelRoute, ReplicaRoute
from models.store.tenancy import HouseRecord, LimitRule, ProjectRecord, TenantRecord, What

MODEL = "m"
REPLICA = ReplicaRoute("m-1", "http://x", "ready", memory_bytes=40 << 30, gpu_share=0.5)


def rule(what: What | str, amount: int | str, per: str = "1m", **more: Any) -> LimitRule:
    return LimitRule(what=What(what), amount=Decimal(amount), per=per, **more)


def account(*rules: LimitRule, tenant: tuple[LimitRule, ...] = (), key: str = "k1") -> Account:
    """``rules``: of the key."""
    return Account(
        caller=Caller(tenant="acme", key_id=key, project="p"),
        key=KeyRecord(key_id=key, name=key, prefix="rh-x", scopes=("inference",), created_unix_s=0.0, limits=rules),
        project=ProjectRecord("p"),
        tenant=TenantRecord("acme", limits=tenant),
        house=HouseRecord(key_limits=()),
    )


def route(**price: str) -> ModelRoute:
    return ModelRoute(model_id=MODEL, price=price, replicas=(REPLICA,))


ROUTE = route()


def need(whose: Account, tokens: int = 0, most: int | None = None, route: ModelRoute = ROUTE) -> Need:
    """Half of the tokens are the prompt's."""
    most = tokens if most is None else most
    return Need(whose, route, tokens // 2, tokens - tokens // 2, most // 2, most - most // 2)


def used(tokens: int = 0, **more: Any) -> Used:
    return Used(tokens // 2, 0, tokens - tokens // 2, **more)


class DirectStore:
    """A client whose scripts run at once, on any event loop; ``delay_s``, ``down`` and ``deaf`` (it does what it is
    told, and the answer is lost) are as the test says."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.calls = 0
        self.delay_s = 0.0
        self.down = self.deaf = False

    def register_script(self, text: str) -> Callable[..., Awaitable[Any]]:
        script = self.client.register_script(text)

        async def run(keys: list[str], args: list[Any]) -> Any:
            self.calls += 1
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if self.down:
                raise redis.ConnectionError("down")
            answer = script(keys=keys, args=args)
            if self.deaf:
                raise redis.ConnectionError("lost")
            return answer

        return run


@dataclass(eq=False)
class Seat:
    """What became of a request that waited."""

    hold: Hold | None = None
    error: GatewayError | None = None
    told: asyncio.Event = field(default_factory=asyncio.Event)

    def granted(self, hold: Any) -> None:
        assert not self.told.is_set()
        self.hold = hold
        self.told.set()

    def not_granted(self, error: GatewayError) -> None:
        assert not self.told.is_set()
        self.error = error
        self.told.set()


async def take(limiter: Limiter, what: Need) -> Hold:
    """Raises what the limiter refuses with."""
    hold = limiter.reserve(what)
    if hold is not None:
        return hold
    seat = Seat()
    limiter.ask(what, seat)
    await seat.told.wait()
    if seat.error is not None:
        raise seat.error
    assert seat.hold is not None
    return seat.hold


class Worker:
    """A limiter with its task; ``kill`` ends it as kill -9 does."""

    def __init__(self, store: Any, keys: Keys, clock: Clock, name: str = "w1", workers: int = 1) -> None:
        self.limiter = Limiter(store, keys, clock, name, lambda: workers)
        self.task = asyncio.ensure_future(self.limiter.run())

    async def kill(self) -> None:
        assert not self.task.done(), self.task
        self.task.cancel()
        await asyncio.wait((self.task,))

    async def stop(self) -> None:
        await self.kill()
        await self.limiter.close()

    async def take(self, what: Need) -> Hold:
        return await take(self.limiter, what)

    async def tries(self, what: Need, times: int) -> int:
        """How many of them pass."""
        passed = 0
        for _ in range(times):
            try:
                await self.take(what)
            except GatewayError:
                continue
            passed += 1
        return passed


def as_async(store: DirectStore) -> Redis:
    return cast(Redis, store)  # only its scripts are used


def held(client: redis.Redis, keys: Keys, placed: Placed) -> dict[str, str]:
    """The counter as it is in the store."""
    found: Any = client.hgetall(keys.limit(placed.place, placed.rule.name))
    return {name.decode(): value.decode() for name, value in found.items()}
