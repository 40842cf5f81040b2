"""Clocks that step, and clocks that differ."""

from __future__ import annotations

import asyncio

import pytest

from gateway.clock import Clock
from gateway.limits.now import Now
from models.store.keys import Keys
from tests.gateway.limits.stage import DirectStore, Worker, account, held, need, rule
from tests.gateway.virtual_time import EPOCH_UNIX_S, loop_clock, play


class StepClock:
    """A wall clock that somebody sets."""

    def __init__(self) -> None:
        self.off_s = 0.0

    def clock(self) -> Clock:
        loop = asyncio.get_running_loop()
        return Clock(unix=lambda: EPOCH_UNIX_S + self.off_s + loop.time(), monotonic=loop.time)


@pytest.mark.parametrize("step_s", [3600.0, -3600.0, 86_400.0, -86_400.0])
def test_a_clock_that_steps_frees_nothing_and_locks_nothing(store: DirectStore, keys: Keys, step_s: float) -> None:
    async def story() -> None:
        wall = StepClock()
        worker = Worker(store, keys, wall.clock())
        what = need(account(rule("requests", 10), rule("requests", 100, "day")))
        assert await worker.tries(what, 12) == 10
        wall.off_s = step_s
        await asyncio.sleep(30)
        assert await worker.tries(what, 12) == 0
        await asyncio.sleep(32)
        assert await worker.tries(what, 12) == 10
        await worker.stop()

    play(story())


@pytest.mark.parametrize("apart_s", [0.4, 10.0, 3600.0])
def test_workers_whose_clocks_differ_keep_to_one_window(store: DirectStore, keys: Keys, apart_s: float) -> None:
    async def story() -> None:
        wall = StepClock()
        wall.off_s = apart_s
        behind, ahead = Worker(store, keys, loop_clock(), "w1"), Worker(store, keys, wall.clock(), "w2")
        what = need(account(rule("requests", 10)))
        assert await behind.tries(what, 3) == 3
        first = await ahead.tries(what, 3)
        assert first == 3
        passed = 0
        for _ in range(30):
            await asyncio.sleep(1.5)
            passed += await behind.tries(what, 1) + await ahead.tries(what, 1)
        # What was used before anybody heard of the clock that is ahead may have left its window already.
        assert 4 <= passed <= (4 if apart_s < 20 else 7)
        await asyncio.sleep(62)
        assert await behind.tries(what, 5) + await ahead.tries(what, 20) == 10
        for worker in (behind, ahead):
            await worker.stop()

    play(story())


def test_a_request_counts_in_the_period_in_which_it_was_admitted(store: DirectStore, keys: Keys) -> None:
    from tests.gateway.limits.stage import used

    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        caller = account(rule("tokens", 1000, "day"))
        left_s = 86_400 - EPOCH_UNIX_S % 86_400
        await asyncio.sleep(left_s - 5)
        hold = await worker.take(need(caller, 900))
        await asyncio.sleep(10)
        await worker.take(need(caller, 950))  # a new day
        worker.limiter.settle(hold, used(100))
        await asyncio.sleep(1)
        fields = held(store.client, keys, caller.rules("m")[0])
        midnight_us = int(EPOCH_UNIX_S + left_s) * 1_000_000
        assert {name: value for name, value in fields.items() if name.isdigit()} == {
            str(midnight_us - 86_400_000_000): "100",
            str(midnight_us): "950",
        }
        await worker.stop()

    play(story())


def test_time_does_not_go_back() -> None:
    at_s = [100.0]
    off_s = [0.0]
    now = Now(Clock(unix=lambda: 1000.0 + at_s[0] + off_s[0], monotonic=lambda: at_s[0]))
    seen = []
    for step_s in range(200):
        at_s[0] += 0.05
        off_s[0] = -500.0 if step_s > 100 else 0.0
        seen.append(now())
    assert seen == sorted(seen)
    assert seen[-1] - seen[0] >= 199 * 0.05 * 0.98 * 1e6
