"""The headers that tell callers of their limits."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import LimitReached
from gateway.limits.telling import duration
from models.store.keys import Keys
from tests.gateway.limits.stage import ROUTE, DirectStore, Worker, account, need, rule, used
from tests.gateway.virtual_time import loop_clock, play


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, b"0s"), (12, b"12ms"), (999, b"999ms"), (1000, b"1s"), (59_000, b"59s"), (60_000, b"1m0s"),
        (360_000, b"6m0s"), (86_400_000, b"24h0m0s"), (1 << 62, b"876000h0m0s"),
    ],
)  # fmt: skip
def test_durations_are_written_as_openai_does(ms: int, text: bytes) -> None:
    assert duration(ms) == text


def told(worker: Worker, whose: object) -> dict[str, str]:
    lines = worker.limiter.headers(whose, ROUTE).decode().splitlines()  # type: ignore[arg-type]
    return {name.removeprefix("x-ratelimit-"): value for name, value in (line.split(": ") for line in lines)}


def test_six_lines_that_are_true_before_while_and_after(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        caller = account(rule("requests", 10), rule("tokens", 1000, "1s"))
        full = {
            "limit-requests": "10", "remaining-requests": "10", "reset-requests": "0s",
            "limit-tokens": "1000", "remaining-tokens": "1000", "reset-tokens": "0s",
        }  # fmt: skip
        assert told(worker, caller) == full
        hold = await worker.take(need(caller, 300))
        assert told(worker, caller) == {
            **full, "remaining-requests": "9", "reset-requests": "1m1s", "remaining-tokens": "700",
            "reset-tokens": "2s",
        }  # fmt: skip
        await asyncio.sleep(0.5)
        now = told(worker, caller)
        assert now["reset-requests"] == "1m1s"
        assert 500 <= int(now["reset-tokens"].removesuffix("ms")) <= 517
        worker.limiter.settle(hold, used(120))
        assert told(worker, caller)["remaining-tokens"] == "880"
        await asyncio.sleep(30)
        assert told(worker, caller)["reset-requests"] == "31s"
        await worker.stop()

    play(story())


def test_the_tightest_rule_of_each_kind_is_told(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        caller = account(
            rule("requests", 10), rule("requests", 3, "day"), rule("output_tokens", 50), rule("tokens", 1000),
            rule("tokens", 5, hard=False),
            tenant=(rule("requests", 500), rule("concurrent", 1)),
        )  # fmt: skip
        await worker.take(need(caller, 10))
        now = told(worker, caller)
        assert (now["limit-requests"], now["remaining-requests"]) == ("3", "2")
        assert (now["limit-tokens"], now["remaining-tokens"]) == ("50", "45")
        assert now["reset-requests"].endswith("s")
        await worker.stop()

    play(story())


def test_what_other_workers_used_is_told_and_what_they_merely_lease_is_not(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        one, other = (Worker(store, keys, loop_clock(), name, workers=2) for name in ("w1", "w2"))
        caller = account(rule("requests", 10_000))
        for _ in range(200):
            await one.take(need(caller))
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.25)
        await other.take(need(caller))
        assert told(other, caller)["remaining-requests"] == "9799"
        for worker in (one, other):
            await worker.stop()

    play(story())


def test_a_refusal_is_told_with_true_lines_too(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        caller = account(rule("requests", 1), rule("tokens", 100))
        await worker.take(need(caller, 30))
        with pytest.raises(LimitReached):
            await worker.take(need(caller, 30))
        now = told(worker, caller)
        assert (now["remaining-requests"], now["remaining-tokens"]) == ("0", "70")
        await worker.stop()

    play(story())


def test_while_answers_are_under_way_what_others_use_is_heard_of(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        one, other = (Worker(store, keys, loop_clock(), name, workers=2) for name in ("w1", "w2"))
        caller = account(rule("requests", 100))
        await one.take(need(caller))
        assert await other.tries(need(caller), 60) == 60
        await asyncio.sleep(5)
        assert told(one, caller)["remaining-requests"] == "39"
        await asyncio.sleep(60)
        assert told(one, caller)["remaining-requests"] == "100"
        for worker in (one, other):
            await worker.stop()

    play(story())
