"""Something that is no counter lies where a counter should be: that rule is in trouble, and nobody else is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.errors import StoreUnavailable
from models.store.keys import Keys
from tests.gateway.limits.stage import DirectStore, Worker, account, held, need, rule
from tests.gateway.virtual_time import loop_clock, play


def spoil(store: DirectStore, keys: Keys, whose: Any) -> str:
    """Its first rule's counter; by its key."""
    placed = whose.rules("m")[0]
    key = keys.limit(placed.place, placed.rule.name)
    store.client.delete(key)
    store.client.set(key, "none of ours")
    return key


def test_a_budget_is_closed_and_others_go_on(store: DirectStore, keys: Keys) -> None:
    poor, other = account(rule("tokens", 1000, "day")), account(rule("tokens", 1000, "day"), key="k2")

    async def story() -> None:
        key = spoil(store, keys, poor)
        worker = Worker(store, keys, loop_clock())
        with capture_logs() as lines:
            waiting = [asyncio.ensure_future(worker.take(need(whose, 10))) for whose in (poor, other, poor, other)]
            done, _ = await asyncio.wait(waiting, timeout=0.1)
            assert len(done) == 4, "nobody waits for long"
            assert [isinstance(one.exception(), StoreUnavailable) for one in waiting] == [True, False, True, False]
            for _ in range(5):
                with pytest.raises(StoreUnavailable):
                    await worker.take(need(poor, 10))
                await worker.take(need(other, 10))
                await asyncio.sleep(0.3)
        assert [line["key"] for line in lines if line["log_level"] == "error"] == [key], "it is said once"
        assert not [line for line in lines if "does not answer" in line["event"]]
        store.client.delete(key)
        assert await worker.tries(need(poor, 100), 11) == 10, "and nothing is left of it"
        await worker.stop()

    play(story())
    assert sum(int(value) for name, value in held(store.client, keys, other.rules("m")[0]).items() if name.isdigit())


def test_a_rate_goes_by_shares(store: DirectStore, keys: Keys) -> None:
    caller = account(rule("requests", 100), rule("tokens", 1000, "day"))

    async def story() -> None:
        key = spoil(store, keys, caller)
        worker = Worker(store, keys, loop_clock(), workers=4)
        assert await worker.tries(need(caller, 1), 60) == 25
        await asyncio.sleep(61)
        assert await worker.tries(need(caller, 1), 60) == 25
        store.client.delete(key)
        await asyncio.sleep(61)
        assert await worker.tries(need(caller, 1), 60) == 60
        await worker.stop()

    play(story())


def test_it_is_left_alone(store: DirectStore, keys: Keys) -> None:
    """Who put it there may want it."""
    caller = account(rule("tokens", 1000, "day"))

    async def story() -> None:
        key = spoil(store, keys, caller)
        worker = Worker(store, keys, loop_clock())
        assert await worker.tries(need(caller, 10), 3) == 0
        await worker.stop()
        assert store.client.get(key) == b"none of ours"

    play(story())
