"""The machine's clock is set an hour ahead and two back while requests run: nobody gets more or less, or pays for it.

Gateway and meter run in this process, on a clock that the test sets; Redis and the engine are real.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from decimal import Decimal

import pytest

from gateway.app import Deps
from gateway.billing.process import Meter
from gateway.clock import Clock
from models.store.client import connect, connect_async
from models.store.tenancy import LimitRule, What
from models.store.usage import Use
from tests.gateway.tenancy.city import MICRO, City
from tests.gateway.tenancy.conftest import Founding
from tests.gateway.tenancy.crowd import Crowd
from tests.gateway.tenancy.test_gpu_seconds import there_ns
from tests.gateway.world import GatewayThread

pytestmark = [pytest.mark.anyio, pytest.mark.chaos]
HOUR_S = 3600.0
LIMIT, WINDOW_S = 40, 2.0
SLEWED = 1.02  # a steady clock makes up for a step by one in a hundred
PART_S = 1.5


@dataclass
class Wall:
    off_s: float = 0.0

    def clock(self) -> Clock:
        return Clock(unix=lambda: time.time() + self.off_s)


@dataclass
class OneProcess(City):
    wall: Wall = field(default_factory=Wall)
    _thread: GatewayThread | None = None
    _meter: asyncio.Task[None] | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.clock = self.wall.clock()

    async def start_gateway(self, *words: str) -> None:
        url = self.redis_server.url
        deps = Deps(
            redis=connect_async(url), blocking_redis=connect(url), keys=self.keys, home=self.home,
            clock=self.wall.clock(), worker="w1",
        )  # fmt: skip
        self._thread = GatewayThread(deps)
        await asyncio.to_thread(self._thread.start)
        self.port = self._thread.port
        await self.until_known()

    def start_meter(self) -> None:
        redis = connect_async(self.redis_server.url)
        meter = Meter(redis, self.keys, self.home, "here", self.wall.clock(), secrets.token_hex(4))
        self._meter = asyncio.create_task(meter.run(self._stopping))

    def kill_meters(self) -> None:
        assert self._meter is not None
        self._meter.cancel()

    async def close(self) -> None:
        if self._thread is not None:
            await asyncio.to_thread(self._thread.stop)
        self._stopping.set()
        assert self._meter is not None
        await asyncio.wait((self._meter,))
        await super().close()


async def test_a_clock_that_is_set_changes_nothing(found: Founding) -> None:
    city = await found(kind=OneProcess)
    assert isinstance(city, OneProcess)
    key = await city.make_key(
        LimitRule(What.REQUESTS, Decimal(LIMIT), f"{WINDOW_S:.0f}s"), LimitRule(What.TOKENS, Decimal(10**7), "day")
    )
    crowd = Crowd(city, key)
    for step_s in (0.0, HOUR_S, -2 * HOUR_S):
        city.wall.off_s += step_s
        before = len(crowd.admitted)
        await crowd.run(callers=4, for_s=PART_S)
        assert len(crowd.admitted) > before, "nobody is kept out"
    most, asked = crowd.most_in_any(WINDOW_S / SLEWED), len(crowd.admitted) + crowd.refused
    took_s = await city.until_settled(asked)
    events = await city.settled()
    assert len(events) == len({one.id for one in events}) == asked
    assert {one.completion_tokens for one in events if one.status == 200} == {3}
    longest_s = max(one.ended_us - one.started_us for one in events) / MICRO
    first, last = min(one.started_us for one in events), max(one.ended_us for one in events)
    print(
        f"a clock that steps: at most {most} of {LIMIT} in any window; {asked} requests over "
        f"{(last - first) / MICRO:.1f} s of {3 * PART_S} s, the longest {longest_s:.3f} s; settled {took_s:.1f} s later"
    )
    assert most <= LIMIT
    assert 3 * PART_S * 0.9 <= (last - first) / MICRO <= 3 * PART_S + 5.0
    assert longest_s < 60.0
    await check_gpu_time(city)


async def check_gpu_time(city: City) -> None:
    from tests.gateway.tenancy.test_gpu_seconds import frozen

    hours, seconds = await frozen(city)
    assert sum(hours.values()) == there_ns(city.pictures, "g0", seconds)
    assert hours[Use.BUSY] == sum(one.gpu_ns for one in await city.settled())
    assert hours[Use.IDLE] > 0
