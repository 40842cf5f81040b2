"""R9: several worker processes behind one port keep one limit, and say so in true headers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from bisect import bisect_left
from decimal import Decimal
from typing import NamedTuple

import aiohttp
import pytest

from models.store.tenancy import LimitRule, What
from tests.gateway.tenancy.city import City, bearer, chat
from tests.gateway.tenancy.conftest import Founding

pytestmark = [pytest.mark.anyio, pytest.mark.chaos]
SIX = [
    f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")
]  # fmt: skip
LIMIT, WINDOW_S = 300, 2
PROMISED = 1.01
BUDGET = 1000


class Admitted(NamedTuple):
    sent_s: float
    told_s: float
    tokens: int


async def ask(client: aiohttp.ClientSession, key: str, **fields: object) -> aiohttp.ClientResponse:
    answer = await client.post("/v1/chat/completions", json=chat(**fields), headers=bearer(key))  # type: ignore[arg-type]
    await answer.read()
    return answer


class Crowd:
    """Callers who ask again at once, each on a connection of its own for each request."""

    def __init__(self, city: City, key: str, tokens: int = 3) -> None:
        self.city, self.key, self.tokens = city, key, tokens
        self.admitted: list[Admitted] = []
        self.refused = 0

    async def run(self, callers: int, for_s: float) -> Crowd:
        until_s = time.monotonic() + for_s
        await asyncio.gather(*(self._one(until_s) for _ in range(callers)))
        return self

    async def _one(self, until_s: float) -> None:
        async with self.city.client(fresh=True) as client:
            while time.monotonic() < until_s:
                sent_s = time.monotonic()
                answer = await ask(client, self.key, tokens=self.tokens)
                if answer.status == 200:
                    self.admitted.append(Admitted(sent_s, time.monotonic(), (await answer.json())["usage"]["total_tokens"]))
                else:
                    assert answer.status == 429, await answer.text()
                    self.refused += 1
                    await asyncio.sleep(0.01)

    def most_in_any(self, window_s: float) -> int:
        """Those that must have been admitted within one window, as they were sent and answered in it."""
        ordered = sorted(self.admitted)
        sent = [one.sent_s for one in ordered]
        most = 0
        for number, first in enumerate(ordered):
            last = bisect_left(sent, first.sent_s + window_s)
            most = max(most, sum(one.told_s <= first.sent_s + window_s for one in ordered[number:last]))
        return most


async def test_r9_eight_workers_race_for_one_window(found: Founding) -> None:
    city = await found(workers=8)
    key = await city.make_key(LimitRule(What.REQUESTS, Decimal(LIMIT), f"{WINDOW_S}s"))
    crowd = await Crowd(city, key).run(callers=24, for_s=3.2 * WINDOW_S)
    most, all_ = crowd.most_in_any(WINDOW_S), len(crowd.admitted)
    print(f"R9: at most {most} of {LIMIT} in any {WINDOW_S} s; {all_} in all, {crowd.refused} refused")
    assert most <= LIMIT * PROMISED
    assert crowd.refused > 0, "they did race"
    assert all_ >= 2 * LIMIT, "and the limit was used, too"


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
        held = [
            asyncio.create_task(ask(client, key, tokens=1000, stream=True, how={"every_s": 0.1})) for _ in range(8)
        ]
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
