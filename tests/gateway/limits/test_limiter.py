"""One worker and its limits, on virtual time."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import BudgetExceeded, ConcurrencyReached, LimitReached
from models.store.keys import Keys
from tests.gateway.limits.stage import ROUTE, DirectStore, Worker, account, need, rule, used
from tests.gateway.virtual_time import loop_clock, play


def test_requests_pass_until_the_limit_and_again_when_the_window_has_moved_on(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        what = need(account(rule("requests", 5)))
        assert await worker.tries(what, 8) == 5
        with pytest.raises(LimitReached) as caught:
            await worker.take(what)
        error = caught.value
        assert (error.status, error.type, error.code) == (429, "rate_limit_error", "rate_limit_exceeded")
        assert "Your API key may use 5 requests per 1m: 5 are used" in error.message
        assert error.retry_after_s is not None
        assert 59 < error.retry_after_s <= 61
        await asyncio.sleep(error.retry_after_s)
        assert await worker.tries(what, 8) == 5
        await worker.stop()

    play(story())


def test_the_difference_to_what_was_reserved_is_put_back(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        caller = account(rule("tokens", 100))
        hold = await worker.take(need(caller, 80))
        with pytest.raises(LimitReached):
            await worker.take(need(caller, 40))
        worker.limiter.settle(hold, used(30))
        worker.limiter.settle(hold, used(30))
        await asyncio.sleep(0.3)
        assert b"x-ratelimit-remaining-tokens: 70\r\n" in worker.limiter.headers(caller, ROUTE)
        await worker.take(need(caller, 70))
        await worker.stop()

    play(story())


def test_requests_at_once_are_free_again_when_they_end(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        what = need(account(rule("concurrent", 2)))
        holds = [await worker.take(what), await worker.take(what)]
        with pytest.raises(ConcurrencyReached, match="may have 2 requests at once, and has 2 under way"):
            await worker.take(what)
        worker.limiter.settle(holds[0], used())
        await worker.take(what)
        await worker.stop()

    play(story())


def test_a_budget_reserves_what_a_request_can_cost_at_most(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        from tests.gateway.limits.stage import route

        worker = Worker(store, keys, loop_clock())
        priced = route(input_token="0.01", output_token="0.02")
        caller = account(rule("money", "1.00", "month"))
        hold = await worker.take(need(caller, 10, most=60, route=priced))  # 0.30 + 0.60
        with pytest.raises(BudgetExceeded) as caught:
            await worker.take(need(caller, 10, most=20, route=priced))
        assert (caught.value.type, caught.value.code) == ("insufficient_quota", "budget_exceeded")
        message = caught.value.message
        assert "1.00 of money per month: 0.9 are used or reserved, and this request can take 0.3" in message
        assert "smaller max_tokens" in message
        worker.limiter.settle(hold, used(10))  # 0.15
        await asyncio.sleep(0.2)
        await worker.take(need(caller, 10, most=56, route=priced))
        await worker.stop()

    play(story())
