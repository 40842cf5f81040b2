"""Limits as others see them: how much is used, and corrections of it."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from gateway.accounts import Placed
from gateway.errors import BudgetExceeded
from gateway.limits.reading import adjust, correction, usage_of
from gateway.limits.windows import UnknownWindow
from models.store.client import connect_async
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from tests.gateway.limits.stage import DirectStore, Worker, account, need, rule, used
from tests.gateway.virtual_time import EPOCH_UNIX_S, loop_clock, play

NOW_US = int(EPOCH_UNIX_S * 1e6)


def seen(
    server: EmbeddedRedis, keys: Keys, places: tuple[Placed, ...], after_s: float = 0.0
) -> list[tuple[int, int, int]]:
    """(used, in hand, left) of each."""

    async def look() -> list[tuple[int, int, int]]:
        async with connect_async(server.url) as redis:
            found = await usage_of(redis, keys, places, NOW_US + int(after_s * 1e6))
        return [(one.used, one.in_hand, one.left) for one in found]

    return asyncio.run(look())


def test_what_is_used_of_each_rule(redis_server: EmbeddedRedis, store: DirectStore, keys: Keys) -> None:
    caller = account(rule("requests", 10), rule("tokens", 1000, "day"), rule("concurrent", 4))

    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        hold = await worker.take(need(caller, 100))
        await worker.take(need(caller, 200))
        worker.limiter.settle(hold, used(40))
        await asyncio.sleep(1.5)
        await worker.stop()

    play(story())
    places = caller.rules("m")
    assert seen(redis_server, keys, places, 2) == [(2, 0, 8), (240, 0, 760), (1, 0, 3)]
    assert seen(redis_server, keys, places, 63)[0] == (0, 0, 10), "the window has passed"
    assert seen(redis_server, keys, places, 63)[2] == (0, 0, 4), "nobody has heard of that worker for a minute"
    assert seen(redis_server, keys, (Placed("key:other", rule("requests", 3)),)) == [(0, 0, 3)]


def test_when_a_rule_that_nobody_can_count_by_is_asked_for_it_is_said(redis_server: EmbeddedRedis, keys: Keys) -> None:
    with pytest.raises(UnknownWindow, match="per: 'fortnight'"):
        seen(redis_server, keys, (Placed("key:k", rule("requests", 3, "fortnight")),))


def test_a_budget_is_corrected_and_workers_go_by_it(
    redis_server: EmbeddedRedis, store: DirectStore, keys: Keys
) -> None:
    caller = account(rule("tokens", 1000, "month"))
    (placed,) = caller.rules("m")

    async def spend(tokens: int) -> None:
        worker = Worker(store, keys, loop_clock())
        await worker.take(need(caller, tokens))
        await worker.stop()

    async def correct(units: int) -> bool:
        async with connect_async(redis_server.url) as redis:
            return await adjust(redis, keys, placed, units, NOW_US)

    play(spend(600))
    assert asyncio.run(correct(300))
    assert seen(redis_server, keys, (placed,)) == [(900, 0, 100)]
    with pytest.raises(BudgetExceeded):
        play(spend(101))
    assert asyncio.run(correct(-500))
    play(spend(600))
    assert seen(redis_server, keys, (placed,)) == [(1000, 0, 0)]


async def _ttl(redis: Redis, key: str) -> int:
    return int(await redis.pttl(key))


def test_a_correction_of_what_nobody_counted_yet_does_not_stay_for_ever(
    redis_server: EmbeddedRedis, keys: Keys
) -> None:
    placed, for_good = Placed("key:k", rule("money", 5, "day")), Placed("key:k", rule("money", 5, "ever"))

    async def story() -> tuple[int, int]:
        async with connect_async(redis_server.url) as redis:
            for one in (placed, for_good):
                await adjust(redis, keys, one, 7, NOW_US)
            return (
                await _ttl(redis, keys.limit("key:k", placed.rule.name)),
                await _ttl(redis, keys.limit("key:k", for_good.rule.name)),
            )

    day, ever = asyncio.run(story())
    assert 40 < day / 86_400_000 <= 41.1
    assert ever == -1


def test_only_budgets_are_corrected(keys: Keys) -> None:
    assert correction(keys, Placed("key:k", rule("tokens", 5, "1m")), 7, NOW_US) is None
    assert correction(keys, Placed("key:k", rule("tokens", 5, "day")), 0, NOW_US) is None
