"""Gateway workers that are killed with requests under way: what these had reserved of budgets is free again, and what
they used is charged."""

from __future__ import annotations

import asyncio
import os
import signal
from decimal import Decimal

import pytest

from gateway.accounts import Placed
from gateway.limits.reading import usage_of
from models.store.tenancy import NANO, LimitRule, What
from tests.gateway.tenancy.city import City, priced
from tests.gateway.tenancy.conftest import Founding
from tests.gateway.tenancy.crowd import ask

pytestmark = [pytest.mark.anyio, pytest.mark.chaos]
TOKENS = LimitRule(What.TOKENS, Decimal(10_000), "day")
MONEY = LimitRule(What.MONEY, Decimal(1), "month")


async def used(city: City) -> list[int]:
    """Of the tenant's budgets, what requests under way have reserved included."""
    places = [Placed("tenant:acme", TOKENS), Placed("tenant:acme", MONEY)]
    found = await usage_of(city.redis, city.keys, places, int(city.clock.steady() * 1e6))
    return [one.used + one.in_hand for one in found]


async def test_budgets_hold_what_was_billed_after_workers_and_meter_were_killed(found: Founding) -> None:
    city = await found(workers=2, house=priced(input_token=Decimal("0.00001"), output_token=Decimal("0.00002")))
    key = await city.make_key(tenant="acme", rules=(TOKENS, MONEY))
    async with city.client(fresh=True) as client:
        for _ in range(5):
            assert (await ask(client, key, tokens=20)).status == 200
        held = [
            asyncio.create_task(ask(client, key, tokens=1000, stream=True, how={"every_s": 0.05})) for _ in range(8)
        ]

        async def all_reserved() -> bool:
            return (await used(city))[0] > 8000

        await city.until(all_reserved)
        await asyncio.sleep(1)
        assert (await ask(client, key, tokens=5000)).status == 429, "it is reserved"
        for pid in city.worker_pids():
            os.kill(pid, signal.SIGKILL)
        city.kill_meters()
        await asyncio.gather(*held, return_exceptions=True)
        await asyncio.sleep(0.5)
        city.start_meter()
        before = await used(city)

        async def free() -> bool:
            settled = await city.settled()
            tokens = sum(one.prompt_tokens + one.completion_tokens for one in settled)
            return len(settled) >= 14 and await used(city) == [tokens, sum(one.cost for one in settled)]

        took_s = await city.until(free)
        after, cut = await used(city), sum(one.cut for one in await city.settled())
        print(
            f"two workers killed with {cut} requests under way: of 10000 tokens {before[0]} were used or reserved, "
            f"{after[0]} are {took_s:.1f} s later; of 1.00 {before[1] / NANO:.4f} and {after[1] / NANO:.4f}"
        )
        assert cut == 8
        assert before[0] > 8000 > 4000 > after[0] > 0
        await city.until_known()
        assert (await ask(client, key, tokens=5000)).status == 200
