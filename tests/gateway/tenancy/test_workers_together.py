"""R9: several worker processes behind one port keep one limit, and say so in true headers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from decimal import Decimal

import aiohttp
import pytest

from models.store.tenancy import LimitRule, What
from tests.gateway.tenancy.conftest import Founding
from tests.gateway.tenancy.crowd import Crowd, ask

pytestmark = [pytest.mark.anyio, pytest.mark.chaos]
SIX = [
    f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")
]  # fmt: skip
LIMIT, WINDOW_S = 300, 2
PROMISED = 1.01
BUDGET = 1000


async def test_r9_eight_workers_race_for_one_window(found: Founding) -> None:
    city = await found(workers=8)
    key = await city.make_key(LimitRule(What.REQUESTS, Decimal(LIMIT), f"{WINDOW_S}s"))
    crowd = await Crowd(city, key).run(callers=24, for_s=2.6 * WINDOW_S)
    most, all_ = crowd.most_in_any(WINDOW_S), len(crowd.admitted)
    print(f"R9: at most {most} of {LIMIT} in any {WINDOW_S} s; {all_} in all, {crowd.refused} refused")
    assert most <= LIMIT * PROMISED
    assert crowd.refused > 0, "they did race"
    assert all_ >= 1.5 * LIMIT, "and the limit was used, too"


async def test_r9_eight_workers_race_for_one_budget(found: Founding) -> None:
    city = await found(workers=8)
    key = await city.make_key(LimitRule(What.TOKENS, Decimal(BUDGET), "day"))
    crowd = await Crowd(city, key).run(callers=24, for_s=2.5)
    spent = sum(one.tokens for one in crowd.admitted)
    print(f"R9: {spent} of a budget of {BUDGET} tokens, {crowd.refused} refused")
    assert spent <= BUDGET * PROMISED
    assert spent >= BUDGET * 0.8, "what was reserved and not used came back"
    async with city.client() as client:
        answer = await ask(client, key, tokens=900)
        error = (await answer.json())["error"]
        assert (answer.status, error["type"], error["code"]) == (429, "insufficient_quota", "budget_exceeded")
        assert int(answer.headers["retry-after"]) > 0


@pytest.mark.long
async def test_r9_what_a_killed_worker_held_comes_back(found: Founding) -> None:
    city = await found(workers=2)
    key = await city.make_key(LimitRule(What.CONCURRENT, Decimal(8), ""))
    async with city.client(fresh=True) as client:
        held = [asyncio.create_task(ask(client, key, tokens=1000, stream=True, how={"every_s": 0.1})) for _ in range(8)]

        async def full() -> bool:
            return (await ask(client, key)).status == 429

        await city.until(full)
        for pid in city.worker_pids():
            os.kill(pid, signal.SIGKILL)
        await asyncio.gather(*held, return_exceptions=True)

        async def free() -> bool:
            with contextlib.suppress(aiohttp.ClientError):
                answers = await asyncio.gather(*(ask(client, key, how={"work_s": 0.5}) for _ in range(8)))
                return [one.status for one in answers] == [200] * 8
            return False

        took_s = await city.until(free)
    print(f"R9: all places of two killed workers are free again after {took_s:.1f} s")


async def test_r9_headers_tell_the_truth_on_either_worker(found: Founding) -> None:
    city = await found(workers=2)
    key = await city.make_key(
        LimitRule(What.REQUESTS, Decimal(20), "1m"), LimitRule(What.TOKENS, Decimal(100_000), "1m")
    )
    left, tokens_left = [], []
    async with city.client(fresh=True) as client:
        for _ in range(20):
            answer = await ask(client, key)
            assert [name for name in SIX if name not in answer.headers] == []
            assert answer.headers["x-ratelimit-limit-requests"] == "20"
            left.append(int(answer.headers["x-ratelimit-remaining-requests"]))
            tokens_left.append(int(answer.headers["x-ratelimit-remaining-tokens"]))
            await asyncio.sleep(0.15)  # rarely enough for headers to be exact
        refused = await ask(client, key)
    print("R9: remaining", left, tokens_left)
    assert left == list(range(19, -1, -1))
    assert tokens_left == sorted(tokens_left, reverse=True)
    assert refused.status == 429
    assert [name for name in SIX if name not in refused.headers] == []
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert 0 < int(refused.headers["retry-after"]) <= 61
