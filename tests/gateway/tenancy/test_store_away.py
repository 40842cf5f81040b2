"""R7: Redis down or silent, felt by callers of two workers; the meter replays what was spooled, each request once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal

import aiohttp
import pytest

from models.store.tenancy import LimitRule, What
from tests.gateway.tenancy.city import City, bearer, chat
from tests.gateway.tenancy.conftest import Founding

pytestmark = [pytest.mark.anyio, pytest.mark.chaos]
AWAY_S = [pytest.param(3.0), pytest.param(30.0, marks=pytest.mark.long)]
ADDED_S = 0.2  # R7: what a silent Redis adds at most
REPLAYED_WITHIN_S = 10.0  # R7
A_LOADED_MACHINE_S = 0.3
EVERY_S = 0.02
PER_WINDOW = 400


@dataclass
class Callers:
    """One who asks again and again with a key, and how long each took."""

    city: City
    key: str
    statuses: Counter[int] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    took_s: list[float] = field(default_factory=list)

    async def ask(self, client: aiohttp.ClientSession) -> None:
        begun_s = time.monotonic()
        async with client.post("/v1/chat/completions", json=chat(), headers=bearer(self.key)) as answer:
            body = await answer.json()
        self.took_s.append(time.monotonic() - begun_s)
        self.statuses[answer.status] += 1
        if answer.status != 200:
            self.codes[body["error"]["code"]] += 1
            assert "retry-after" in answer.headers

    async def run(self, for_s: float) -> Callers:
        until_s = time.monotonic() + for_s
        async with self.city.client(fresh=True) as client:
            while time.monotonic() < until_s:
                await self.ask(client)
                await asyncio.sleep(EVERY_S)
        return self


@pytest.mark.parametrize("away_s", AWAY_S)
@pytest.mark.parametrize("how", ["silent", "down"])
async def test_r7(found: Founding, how: str, away_s: float) -> None:
    city = await found(workers=2)
    limited = await city.make_key(LimitRule(What.REQUESTS, Decimal(PER_WINDOW), "1m"), tenant="limited")
    known = await city.make_key(tenant="free")
    budget = await city.make_key(LimitRule(What.MONEY, Decimal(1000), "month"), tenant="budget")
    unseen = await city.make_key(tenant="unseen")
    before = [await Callers(city, key).run(1.0) for key in (known, limited, budget)]
    assert all(set(one.statuses) == {200} for one in before)
    await (asyncio.to_thread(city.redis_server.kill) if how == "down" else asyncio.to_thread(city.silence))
    callers = [Callers(city, key) for key in (known, limited, budget, unseen)]
    await asyncio.gather(*(one.run(away_s) for one in callers))
    after_known, after_limited, after_budget, after_unseen = callers
    at_usual_s = max(took for one in before for took in one.took_s)
    slowest_s = max(took for one in callers for took in one.took_s)
    await (asyncio.to_thread(city.redis_server.start) if how == "down" else asyncio.to_thread(city.let_speak))
    served = sum(one.statuses[200] for one in (*before, *callers))
    replayed_s = await city.until_settled(served)
    print(
        f"R7, {how} for {away_s:.0f} s: {dict(after_known.statuses)} known, {dict(after_limited.statuses)} limited, "
        f"{dict(after_budget.statuses)} hard budget, {dict(after_unseen.codes)} unknown; slowest "
        f"{slowest_s * 1e3:.0f} ms (before {at_usual_s * 1e3:.0f} ms); all replayed after {replayed_s:.1f} s"
    )
    assert set(after_known.statuses) == {200}
    assert set(after_limited.statuses) <= {200, 429}
    assert before[1].statuses[200] + after_limited.statuses[200] <= PER_WINDOW
    assert set(after_budget.codes) == set(after_unseen.codes) == {"store_unavailable"}
    assert set(after_unseen.statuses) == {503}
    # What a worker had been given of the budget before is its own to spend; soon it has nothing of it.
    assert after_budget.statuses[503] > after_budget.statuses[200]
    assert slowest_s <= at_usual_s + ADDED_S + A_LOADED_MACHINE_S
    assert replayed_s <= REPLAYED_WITHIN_S
    await check_each_once(city, before, callers)


async def check_each_once(city: City, before: list[Callers], callers: list[Callers]) -> None:
    """Those who were refused with a key that is known have events, too."""
    asked = sum(sum(one.statuses.values()) for one in (*before, *callers[:3]))

    async def all_there() -> bool:
        return len([one for one in await city.settled() if one.tenant != "unseen"]) >= asked

    await city.until(all_there)
    await asyncio.sleep(2.0)  # what comes twice would come by then
    events = [one for one in await city.settled() if one.tenant != "unseen"]
    assert len(events) == len({one.id for one in events}) == asked
    assert Counter(one.status for one in events) == sum(
        (one.statuses for one in (*before, *callers[:3])), start=Counter[int]()
    )
    answered = [one for one in events if one.status == 200]
    assert {one.completion_tokens for one in answered} == {3}
    totals = await city.totals()
    assert totals["cost"] == sum(one.cost for one in await city.settled())
