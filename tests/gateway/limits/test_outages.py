"""The store is slow, silent, gone, or forgets the answer: what callers get meanwhile, and what is counted after."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.errors import LimitReached, StoreUnavailable
from gateway.limits.bureau import LAST_LOOK_S, PATIENCE_S
from models.store.keys import Keys
from tests.gateway.limits.stage import DirectStore, Seat, Worker, account, held, need, rule, take, used
from tests.gateway.virtual_time import loop_clock, play

PROMISED_S = 0.2  # R7: a silent Redis adds at most so much to a request


def now_s() -> float:
    return asyncio.get_running_loop().time()


def test_a_slow_store_is_waited_for(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock(), workers=4)
        store.delay_s = 0.14
        assert await worker.tries(need(account(rule("requests", 5))), 8) == 5, "not by shares"
        await worker.stop()

    play(story())


def test_a_silent_store_is_waited_for_once_and_not_for_long(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        store.delay_s = 1e6
        what = need(account(rule("requests", 50)))
        begun_s = now_s()
        await asyncio.gather(*(worker.take(what) for _ in range(10)))
        assert now_s() - begun_s == pytest.approx(PATIENCE_S + LAST_LOOK_S)
        assert now_s() - begun_s <= PROMISED_S
        calls, begun_s = store.calls, now_s()
        for _ in range(30):
            await worker.take(what)
        assert now_s() == begun_s, "nobody else waits"
        assert store.calls == calls
        await asyncio.sleep(30)
        assert 8 <= store.calls - calls <= 30, "it is asked from time to time whether it is there"
        await worker.kill()

    play(story())


def test_who_comes_while_the_question_of_others_is_not_answered_waits_no_longer_than_they(
    store: DirectStore, keys: Keys
) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        store.delay_s = 1e6
        what = need(account(rule("requests", 50)))
        first = asyncio.ensure_future(worker.take(what))
        await asyncio.sleep(0.1)
        begun_s = now_s()
        await asyncio.gather(first, worker.take(what))
        assert now_s() - begun_s <= PROMISED_S
        await worker.kill()

    play(story())


def test_what_others_learned_of_the_store_is_taken_for_granted(store: DirectStore, keys: Keys) -> None:
    """A request that has waited for its key to be looked up does not wait a second time for its limits."""

    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        store.delay_s = 1e6
        worker.limiter.store_is_silent()
        await worker.take(need(account(rule("requests", 50))))
        assert now_s() == 0
        await worker.kill()

    play(story())


def test_while_the_store_is_away_each_worker_has_its_share(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        workers = [Worker(store, keys, loop_clock(), name, workers=4) for name in ("w1", "w2", "w3", "w4")]
        store.down = True
        what = need(account(rule("requests", 100)))
        assert [await worker.tries(what, 40) for worker in workers] == [25] * 4
        with pytest.raises(LimitReached, match="its store does not answer"):
            await workers[0].take(what)
        await asyncio.sleep(62)
        assert await workers[0].tries(what, 40) == 25, "a window later"
        store.down = False
        await asyncio.sleep(1.5)
        assert await workers[1].tries(what, 100) == 75, "the store knows of what was used meanwhile"
        for worker in workers:
            await worker.stop()

    play(story())


def test_what_was_used_before_the_store_went_away_counts_on(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        busy, other = (Worker(store, keys, loop_clock(), name, workers=2) for name in ("w1", "w2"))
        what = need(account(rule("requests", 100)))
        assert await busy.tries(what, 90) == 90
        await asyncio.sleep(0.5)
        await other.take(what)
        store.down = True
        assert await busy.tries(what, 100) <= 9
        assert await other.tries(what, 100) <= 9
        await busy.kill()
        await other.kill()

    play(story())


def test_budgets_fail_closed_and_say_so(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        store.down = True
        with pytest.raises(StoreUnavailable, match="budget cannot be checked") as caught:
            await worker.take(need(account(rule("tokens", 1000, "month")), 10))
        assert (caught.value.status, caught.value.retry_after_s) == (503, 1.0)
        await worker.take(need(account(rule("tokens", 1000, "month", hard=False), key="k2"), 10))
        store.down = False
        await asyncio.sleep(1.1)
        await worker.take(need(account(rule("tokens", 1000, "month")), 10))
        await worker.stop()

    play(story())


def test_an_answer_that_was_lost_counts_once(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        caller = account(rule("tokens", 1000, "day"))
        hold = await worker.take(need(caller, 400))
        store.deaf = True
        worker.limiter.settle(hold, used(300))
        await asyncio.sleep(5)
        store.deaf = False
        await asyncio.sleep(2)
        await worker.stop()
        fields = held(store.client, keys, caller.rules("m")[0])
        assert [value for name, value in fields.items() if name.isdigit()] == ["300"]

    play(story())


def test_requests_at_once_are_shared_out_too(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        workers = [Worker(store, keys, loop_clock(), name, workers=2) for name in ("w1", "w2")]
        store.down = True
        what = need(account(rule("concurrent", 8)))
        holds = [[await worker.take(what) for _ in range(4)] for worker in workers]
        for worker in workers:
            assert await worker.tries(what, 1) == 0
        workers[0].limiter.settle(holds[0][0], used())
        await workers[0].take(what)
        store.down = False
        await asyncio.sleep(2)
        assert await workers[1].tries(what, 1) == 0
        for worker in workers:
            await worker.stop()

    play(story())


def test_who_left_is_not_told(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        store.delay_s = 0.05
        what = need(account(rule("requests", 1)))
        gone = Seat()
        assert worker.limiter.reserve(what) is None
        worker.limiter.ask(what, gone)
        await asyncio.sleep(0.01)
        worker.limiter.leave(gone)
        await asyncio.sleep(0.2)
        assert not gone.told.is_set()
        await take(worker.limiter, what)  # what it would have had is there for others
        await worker.stop()

    play(story())


def test_whoever_leaves_when_another_is_told_is_not_told(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())

        class Rival(Seat):
            """Of two only the first goes on."""

            other: Rival

            def granted(self, hold: Any) -> None:
                super().granted(hold)
                worker.limiter.leave(self.other)

        for down in (False, True):
            one, two = Rival(), Rival()
            one.other, two.other = two, one
            what = need(account(rule("requests", 100), key=f"k{down}"))
            store.down = down
            for seat in (one, two):
                assert worker.limiter.reserve(what) is None
                worker.limiter.ask(what, seat)
            await asyncio.sleep(0.3)
            assert [seat.told.is_set() for seat in (one, two)] == [True, False]
        await worker.kill()

    play(story())


def test_who_asks_after_the_store_went_away_is_answered_at_once(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        what = need(account(rule("requests", 100)))
        seat = Seat()
        assert worker.limiter.reserve(what) is None
        worker.limiter.store_is_silent()
        worker.limiter.ask(what, seat)
        await seat.told.wait()
        assert now_s() == 0
        await worker.kill()

    play(story())


def test_a_worker_that_ends_answers_whoever_waits(store: DirectStore, keys: Keys) -> None:
    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        store.delay_s = 0.1
        waits = asyncio.ensure_future(worker.take(need(account(rule("requests", 1)))))
        await asyncio.sleep(0.01)
        await worker.stop()
        await asyncio.wait_for(waits, 1)

    play(story())
