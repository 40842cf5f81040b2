"""Money and GPU time: what nobody knows before a request has run."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import BudgetExceeded
from gateway.limits.plan import AHEAD_US
from models.store.keys import Keys
from tests.gateway.limits.stage import DirectStore, Worker, account, held, need, route, rule, used
from tests.gateway.virtual_time import loop_clock, play

SHARE = 0.5  # of a GPU, that the stage's replica has


def counted(store: DirectStore, keys: Keys, whose: object) -> int:
    fields = held(store.client, keys, whose.rules("m")[0])  # type: ignore[attr-defined]
    return sum(int(value) for name, value in fields.items() if name.isdigit())


def test_what_runs_is_held_against_its_budget_and_ended_when_it_is_used_up(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        caller = account(rule("gpu_seconds", 10, "day"))
        hold = await worker.take(need(caller, 100))
        assert hold.by_time
        ran_s = 0
        while worker.limiter.extend(hold, int(ran_s * SHARE * 1e6), 0):
            await asyncio.sleep(1)
            ran_s += 1
            assert ran_s < 30
        assert 19 <= ran_s <= 22
        with pytest.raises(BudgetExceeded, match="10 GPU-seconds per day"):
            await worker.take(need(caller, 100))
        worker.limiter.settle(hold, used(100, gpu_us=int(ran_s * SHARE * 1e6)))
        await worker.stop()
        assert counted(store, keys, caller) == ran_s * SHARE * 1e6

    play(story())


def test_several_that_run_overrun_their_budget_by_no_more_than_they_run_between_two_looks(
    store: DirectStore, keys: Keys
) -> None:
    async def story() -> None:
        workers = [Worker(store, keys, loop_clock(), name, workers=2) for name in ("w1", "w2")]
        caller = account(rule("money", 20, "day"))
        priced = route(gpu_second="1")
        running = {}
        for worker in workers:
            for _ in range(4):
                running[await worker.take(need(caller, 100, route=priced))] = worker
        spent_us, ran_us = 0.0, 0.0
        while running:
            await asyncio.sleep(1)
            ran_us += SHARE * 1e6
            for hold, worker in list(running.items()):
                if not worker.limiter.extend(hold, int(ran_us), 0):
                    worker.limiter.settle(hold, used(100, gpu_us=int(ran_us)))
                    del running[hold]
                    spent_us += ran_us
        assert 15e6 <= spent_us <= 20e6 + 8 * 2 * SHARE * 1e6
        for worker in workers:
            await worker.stop()
        assert counted(store, keys, caller) == spent_us * 1000

    play(story())


def test_what_runs_goes_on_while_the_store_is_away(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        caller = account(rule("gpu_seconds", 5, "day"))
        hold = await worker.take(need(caller, 100))
        store.down = True
        for ran_s in range(30):
            assert worker.limiter.extend(hold, int(ran_s * SHARE * 1e6), 0)
            await asyncio.sleep(1)
        store.down = False
        await asyncio.sleep(2)
        assert not worker.limiter.extend(hold, int(16e6), 0) or not worker.limiter.extend(hold, int(17e6), 0)
        worker.limiter.settle(hold, used(100, gpu_us=int(17e6)))
        await worker.stop()
        assert counted(store, keys, caller) == 17e6

    play(story())


def test_what_has_no_price_by_time_is_not_looked_at_again(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        hold = await worker.take(need(account(rule("money", 1, "day")), 10, route=route(output_token="0.01")))
        assert not hold.by_time
        assert worker.limiter.extend(hold, 10**12, 0)
        await worker.stop()

    play(story())


def test_what_came_to_nothing_costs_nothing(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        caller = account(rule("money", 2, "day"), rule("requests", 1, "day"))
        hold = await worker.take(need(caller, 10, route=route(request="1", gpu_second="0.1")))
        worker.limiter.settle(hold, used(0, answered=False))
        await worker.stop()
        assert counted(store, keys, caller) == 0

    play(story())


def test_more_than_was_reserved_is_charged_and_holds_back_who_comes_next(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        caller = account(rule("tokens", 100))
        hold = await worker.take(need(caller, 10))
        worker.limiter.settle(hold, used(150))
        await asyncio.sleep(0.2)
        assert await worker.tries(need(caller, 1), 1) == 0
        await asyncio.sleep(61)
        assert await worker.tries(need(caller, 1), 1) == 1
        await worker.stop()

    play(story())


def test_gpu_time_of_rates_is_guessed_from_what_others_had(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        caller = account(rule("gpu_seconds", 10, "1m"))
        for _ in range(30):
            worker.limiter.settle(await worker.take(need(caller, 10)), used(10, gpu_us=100_000))
            await asyncio.sleep(3)
        assert 20 <= await worker.tries(need(caller, 10), 500) <= 100
        await worker.stop()

    play(story())


def test_a_budget_of_time_reserves_what_runs_until_the_next_look(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        assert await worker.tries(need(account(rule("gpu_seconds", 3, "day")), 10), 9) == int(3e6 / (SHARE * AHEAD_US))
        await worker.stop()

    play(story())
