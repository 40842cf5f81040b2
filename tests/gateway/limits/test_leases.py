"""What workers have in hand: how much, for how long, and what becomes of it."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import ConcurrencyReached
from gateway.limits.script import LEASE_US
from models.store.keys import Keys
from tests.gateway.limits.stage import DirectStore, Worker, account, held, need, rule, used
from tests.gateway.virtual_time import loop_clock, play

LEASE_S = LEASE_US / 1e6


def in_hand(store: DirectStore, keys: Keys, whose: object, worker: str = "w1") -> int:
    fields = held(store.client, keys, whose.rules("m")[0])  # type: ignore[attr-defined]
    return int(fields[f"w:{worker}"].split()[1])


def test_who_is_asked_often_hardly_asks_the_store(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock(), workers=4)
        caller = account(rule("requests", 10_000_000), rule("tokens", 10_000_000_000))
        waited = 0
        for _ in range(5000):
            hold = worker.limiter.reserve(need(caller, 100))
            if hold is None:
                waited += 1
                hold = await worker.take(need(caller, 100))
            worker.limiter.settle(hold, used(80))
            await asyncio.sleep(0.0002)
        assert waited < 30
        assert store.calls < 45, "ten a second, and those at the beginning"
        await asyncio.sleep(1.1)
        assert in_hand(store, keys, caller) == 0, "what is not used within a second is given back"
        await worker.stop()

    play(story())


def test_who_is_asked_rarely_takes_what_it_needs(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        caller = account(rule("tokens", 100_000))
        for _ in range(5):
            await worker.take(need(caller, 100))
            assert in_hand(store, keys, caller) == 100
            await asyncio.sleep(0.2)
            assert in_hand(store, keys, caller) == 0
        await worker.stop()

    play(story())


def test_no_worker_leases_more_than_a_fiftieth(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        caller = account(rule("requests", 1000, "1s"))
        most = 0
        for _ in range(500):
            await worker.tries(need(caller), 5)
            await asyncio.sleep(0.004)
            most = max(most, in_hand(store, keys, caller))
        assert 5 <= most <= 20
        await worker.stop()

    play(story())


def test_a_flood_of_refusals_costs_the_store_no_calls(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        caller = account(rule("requests", 5))
        assert await worker.tries(need(caller), 5) == 5
        await asyncio.sleep(1.5)
        calls = store.calls
        for _ in range(1000):
            assert await worker.tries(need(caller), 10) == 0
            await asyncio.sleep(0.001)
        assert store.calls - calls <= 12, "10,000 refusals in a second"
        await worker.stop()

    play(story())


def test_what_another_worker_puts_back_is_soon_there(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        one, other = (Worker(store, keys, loop_clock(), name, workers=2) for name in ("w1", "w2"))
        caller = account(rule("tokens", 100))
        hold = await one.take(need(caller, 90))
        assert await other.tries(need(caller, 50), 1) == 0
        one.limiter.settle(hold, used(0, answered=False))
        await asyncio.sleep(0.11)
        assert await other.tries(need(caller, 50), 1) == 1
        for worker in (one, other):
            await worker.stop()

    play(story())


def test_who_sends_one_request_after_another_is_never_told_that_two_are_under_way(
    store: DirectStore, keys: Keys
) -> None:
    """Whichever worker each goes to: what ended there a moment ago may not be known here yet."""

    async def story() -> None:
        workers = [Worker(store, keys, loop_clock(), name, workers=2) for name in ("w1", "w2")]
        store.delay_s = 0.002
        what = need(account(rule("concurrent", 1)))
        for number in range(100):
            worker = workers[number % 3 % 2]
            hold = await worker.take(what)
            await asyncio.sleep(0.003)
            worker.limiter.settle(hold, used())
        for worker in workers:
            await worker.stop()

    play(story())


def test_who_was_refused_passes_when_what_it_waited_for_has_ended(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        store.delay_s = 0.001
        what = need(account(rule("concurrent", 1)))
        for _ in range(20):
            hold = await worker.take(what)
            assert await worker.tries(what, 1) == 0
            worker.limiter.settle(hold, used())
            await asyncio.sleep(0.0005)
        await worker.stop()

    play(story())


def test_of_a_dead_worker_requests_at_once_are_free_again_and_tokens_are_not(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        dead, alive = (Worker(store, keys, loop_clock(), name, workers=2) for name in ("w1", "w2"))
        at_once, tokens = account(rule("concurrent", 3)), account(rule("tokens", 100, "day"), key="k2")
        for _ in range(3):
            await dead.take(need(at_once))
        await dead.take(need(tokens, 60))
        await dead.kill()
        with pytest.raises(ConcurrencyReached):
            await alive.take(need(at_once))
        await asyncio.sleep(LEASE_S + 0.2)
        assert await alive.tries(need(at_once), 4) == 3
        assert await alive.tries(need(tokens, 20), 4) == 2
        await alive.stop()

    play(story())


def test_what_runs_long_stays_counted(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        one, other = (Worker(store, keys, loop_clock(), name, workers=2) for name in ("w1", "w2"))
        what = need(account(rule("concurrent", 1)))
        hold = await one.take(what)
        for _ in range(20):
            await asyncio.sleep(10)
            assert await other.tries(what, 1) == 0
        one.limiter.settle(hold, used())
        await asyncio.sleep(0.2)
        assert await other.tries(what, 1) == 1
        for worker in (one, other):
            await worker.stop()

    play(story())


def test_a_worker_that_ends_gives_back_what_it_has_not_used(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        one, other = (Worker(store, keys, loop_clock(), name, workers=2) for name in ("w1", "w2"))
        caller = account(rule("tokens", 10_000, "day"))
        for _ in range(50):
            await one.take(need(caller, 10))
            await asyncio.sleep(0.001)
        await one.stop()
        assert in_hand(store, keys, caller) == 0
        assert await other.tries(need(caller, 9500), 1) == 1
        await other.stop()

    play(story())


def test_what_was_got_of_one_rule_goes_back_when_another_refuses(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        caller = account(rule("requests", 10), rule("tokens", 100))
        assert await worker.tries(need(caller, 101), 20) == 0
        assert await worker.tries(need(caller, 60), 20) == 1
        await asyncio.sleep(0.2)
        assert await worker.tries(need(caller, 1), 20) == 9
        await worker.stop()

    play(story())


def test_the_oldest_slot_counts_until_all_of_it_has_left_the_window(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        what = need(account(rule("requests", 1)))
        await asyncio.sleep(0.9)  # late in its slot of a second
        await worker.take(what)
        await asyncio.sleep(59.9)
        assert await worker.tries(what, 1) == 0
        await asyncio.sleep(0.2)
        await worker.take(what)
        await worker.stop()

    play(story())
