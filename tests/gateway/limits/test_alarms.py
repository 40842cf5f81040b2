"""Who watches a budget is told once when it goes above a share, and once when it refuses."""

from __future__ import annotations

import asyncio
from typing import Any

import redis

from models.store.alerts import FIELD, Alert
from models.store.codec import decode
from models.store.keys import Keys
from tests.gateway.limits.stage import DirectStore, Worker, account, need, route, rule, used
from tests.gateway.virtual_time import EPOCH_UNIX_S, loop_clock, play


def alerts(client: redis.Redis, keys: Keys) -> list[Alert]:
    found: Any = client.xrange(keys.alerts)
    return [decode(fields[FIELD.encode()], Alert, "alert") for _, fields in found]


def test_each_share_is_told_once_a_window_by_whichever_worker(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        workers = [Worker(store, keys, loop_clock(), f"w{number}", workers=3) for number in range(3)]
        caller = account(rule("tokens", 1000, "day", alert_at=(0.8, 0.5), hard=False))
        for day in range(2):
            for _ in range(10):
                for worker in workers:
                    worker.limiter.settle(await worker.take(need(caller, 50)), used(50))
                await asyncio.sleep(1)
            told = alerts(store.client, keys)[2 * day :]
            assert [alert.share for alert in told] == [0.5, 0.8]
            await asyncio.sleep(86_400)
        for worker in workers:
            await worker.stop()

    play(story())
    first = alerts(store.client, keys)[0]
    assert (first.kind, first.place, first.tenant) == ("budget.threshold", "key:k1", "acme")
    assert (first.rule, first.amount) == ("tokens/day/*/soft", 1000)
    assert first.used is not None
    assert 500 <= first.used < 800
    assert first.at >= EPOCH_UNIX_S * 1e6
    assert first.text == "50% of 1000 tokens per day of key:k1 is used"


def test_a_soft_rule_refuses_nobody(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        caller = account(rule("requests", 2, "1m", hard=False), rule("money", 1, "ever", hard=False))
        assert await worker.tries(need(caller, 10**6, route=route(output_token="9")), 50) == 50
        await worker.stop()

    play(story())
    assert alerts(store.client, keys) == []


def test_that_a_budget_refuses_is_told_once(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        caller = account(rule("money", 3, "month", alert_at=(1.0,)))
        priced = route(request="1")
        assert await worker.tries(need(caller, route=priced), 5) == 3
        await asyncio.sleep(1)
        assert await worker.tries(need(caller, route=priced), 5) == 0
        await worker.stop()

    play(story())
    told = alerts(store.client, keys)
    assert [(alert.kind, alert.share, alert.used) for alert in told] == [
        ("budget.threshold", 1.0, 3 * 10**9),
        ("budget.exceeded", None, 3 * 10**9),
    ]


def test_a_rate_that_is_watched_is_told_of_again_after_a_window(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        caller = account(rule("requests", 10, "1m", alert_at=(0.5,)))
        for _ in range(3):
            assert await worker.tries(need(caller), 10) == 10
            await asyncio.sleep(62)
        await worker.stop()

    play(story())
    assert len(alerts(store.client, keys)) == 3
