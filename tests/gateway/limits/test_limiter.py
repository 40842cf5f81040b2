"""One worker and its limits, on virtual time."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import BudgetExceeded, ConcurrencyReached, LimitReached
from models.store.keys import Keys
from tests.gateway.limits.stage import ROUTE, DirectStore, Worker, account, need, route, rule, used
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
        worker = Worker(store, keys, loop_clock())
        priced = route(input_token="0.01", output_token="0.02")
        caller = account(rule("money", "1.00", "month"))
        hold = await worker.take(need(caller, 10, most=60, route=priced))  # 0.30 + 0.60
        with pytest.raises(BudgetExceeded) as caught:
            await worker.take(need(caller, 10, most=20, route=priced))
        assert (caught.value.type, caught.value.code) == ("insufficient_quota", "budget_exceeded")
        assert ("x-should-retry", "false") in caught.value.headers()
        message = caught.value.message
        assert "may spend 1.00 per month: 0.9 are used or reserved, and this request can cost 0.3" in message
        assert "smaller max_tokens" in message
        worker.limiter.settle(hold, used(10))  # 0.15
        await asyncio.sleep(0.2)
        await worker.take(need(caller, 10, most=56, route=priced))
        await worker.stop()

    play(story())


def test_who_has_no_limits_has_no_lines_and_no_questions(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        caller = account()
        hold = worker.limiter.reserve(need(caller, 10**9))
        assert hold is not None
        worker.limiter.settle(hold, used(10**9))
        assert worker.limiter.headers(caller, ROUTE) == b""
        await asyncio.sleep(10)
        assert store.calls == 0
        await worker.stop()

    play(story())


def test_a_limit_that_changes_counts_from_then_on(store: DirectStore, keys: Keys) -> None:
    """Accounts are made anew with every change; what was used stays used."""

    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        assert await worker.tries(need(account(rule("requests", 5))), 9) == 5
        await asyncio.sleep(0.2)
        assert await worker.tries(need(account(rule("requests", 8))), 9) == 3
        await asyncio.sleep(0.2)
        assert await worker.tries(need(account(rule("requests", 4))), 9) == 0
        await worker.stop()

    play(story())


def test_one_limit_of_a_tenant_holds_for_all_of_its_keys(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        whole = (rule("requests", 5),)
        first, second = account(tenant=whole, key="k1"), account(tenant=whole, key="k2")
        assert await worker.tries(need(first), 3) == 3
        assert await worker.tries(need(second), 2) == 2
        with pytest.raises(LimitReached, match="Your tenant 'acme' may use 5 requests per 1m"):
            await worker.take(need(second))
        await worker.stop()

    play(story())


def test_a_rule_that_cannot_be_read_is_left_out_and_said(
    store: DirectStore, keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        caller = account(rule("requests", 1, "fortnight"), rule("requests", 2))
        assert await worker.tries(need(caller), 5) == 2
        await worker.stop()

    play(story())
    assert capsys.readouterr().out.count("a limit is left out") == 1


def test_a_request_that_is_larger_than_the_limit_is_told_what_helps(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        with pytest.raises(LimitReached, match="never free for so much at once; a smaller max_tokens") as caught:
            await worker.take(need(account(rule("tokens", 100)), 500))
        assert ("x-should-retry", "false") in caught.value.headers(), "it would be no smaller then"
        with pytest.raises(LimitReached, match="a shorter prompt, or a higher limit"):
            await worker.take(need(account(rule("input_tokens", 100), key="k2"), 500))
        assert store.calls == 0, "the store need not be asked for that"
        await worker.stop()

    play(story())


def test_rules_of_all_kinds_are_asked_in_their_order_and_each_is_settled_by_what_it_counts(
    store: DirectStore, keys: Keys
) -> None:
    """On the usual way they are not taken in that order."""
    kinds = ("concurrent", "output_tokens", "tokens", "requests")
    rules = [rule(kind, 1000 if "tokens" in kind else 4) for kind in kinds]

    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        caller = account(*rules, tenant=(rule("tokens", 3000), rule("money", "1.00", "month")))
        priced = route(output_token="0.001")

        def left() -> list[int]:
            """Of each rule, once it has been reported."""
            plan = worker.limiter._plan(caller, priced)
            return [entry.counter.remaining for entry in plan.entries]

        whole = [4, 1000, 1000, 4, 3000, 10**9]
        await worker.take(need(caller, 2, route=priced))  # now all of them are leased
        worker.limiter.settle(await worker.take(need(caller, 400, route=priced)), used(0, answered=False))
        first, second = [await worker.take(need(caller, 400, route=priced)) for _ in range(2)]
        with pytest.raises(LimitReached, match="may use 1000 tokens per 1m"):
            await worker.take(need(caller, 400, route=priced))
        worker.limiter.settle(first, used(100))
        worker.limiter.settle(second, used(600))
        await asyncio.sleep(0.3)
        spent = [1, 1 + 50 + 300, 2 + 100 + 600, 3, 2 + 100 + 600, (1 + 50 + 300) * 10**6]
        assert left() == [all_of - of_it for all_of, of_it in zip(whole, spent, strict=True)]
        await worker.stop()

    play(story())
