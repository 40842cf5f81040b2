"""Whatever several workers do, in whatever order, and whatever becomes of them: no more than the amount, and no less.

The script is the real one, on a real Redis; time is the test's.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import Any

import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.accounts import Account
from gateway.errors import GatewayError
from gateway.limits.limiter import Hold
from gateway.limits.windows import Shape, window_of
from models.store.keys import Keys
from models.store.tenancy import LimitRule
from tests.gateway.limits.stage import DirectStore, Seat, Worker, account, held, need, rule, used
from tests.gateway.virtual_time import loop_clock, play

AMOUNT = 1000
_prefixes = itertools.count()
_hard_work = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

worker_numbers = st.integers(0, 2)
pauses = st.sampled_from([0.0, 0.01, 0.04, 0.1, 0.3, 1.0, 1.7, 5.0, 16.0, 40.0, 59.0, 61.0])
usual = st.one_of(
    st.tuples(st.just("take"), worker_numbers, st.integers(1, 400)),
    st.tuples(st.just("burst"), worker_numbers, st.integers(2, 12)),
    st.tuples(st.just("burst"), worker_numbers, st.integers(2, 12)),
    st.tuples(st.just("settle"), st.integers(0, 50), st.integers(0, 100)),
    st.tuples(st.just("wait"), pauses, st.just(0)),
    st.tuples(st.just("slow"), worker_numbers, st.integers(0, 120)),
)
kills = st.tuples(st.just("kill"), worker_numbers, st.just(0))
outages = st.tuples(st.sampled_from(["down", "deaf", "heal"]), worker_numbers, st.just(0))


@dataclass
class Taken:
    """``counts``: as much of it as is used or may be."""

    at_s: float
    worker: Worker
    hold: Hold
    counts: int


@dataclass
class World:
    client: redis.Redis
    keys: Keys
    limit: LimitRule
    whose: Account = field(init=False)
    stores: list[DirectStore] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    open: list[Taken] = field(default_factory=list)
    waiting: list[Any] = field(default_factory=list)
    killed: int = 0

    def __post_init__(self) -> None:
        self.whose = account(self.limit)
        for number in range(3):
            self.stores.append(DirectStore(self.client))
            self.workers.append(self.new_worker(number))

    def new_worker(self, number: int) -> Worker:
        return Worker(self.stores[number], self.keys, loop_clock(), f"w{number}-{next(_prefixes)}", workers=3)

    async def play(self, does: str, one: Any, two: Any) -> None:
        if does == "take":
            self.take(one, two)
        elif does == "burst":
            for units in range(1, two):  # often enough for leases
                self.take(one, units)
                await asyncio.sleep(0.004)
        elif does == "settle" and self.open:
            taken = self.open.pop(one % len(self.open))
            taken.counts = taken.counts * two // 100
            taken.worker.limiter.settle(taken.hold, used(taken.counts))
        elif does == "wait":
            await asyncio.sleep(one)
        elif does == "slow":
            self.stores[one].delay_s = two / 1000
        elif does == "kill":
            await self.kill(one)
        elif does in ("down", "deaf", "heal"):
            self.stores[one].down, self.stores[one].deaf = does == "down", does == "deaf"

    def take(self, number: int, units: int) -> None:
        worker, what = self.workers[number], need(self.whose, units)
        try:
            hold = worker.limiter.reserve(what)
        except GatewayError:
            return
        if hold is not None:
            self.took(worker, hold, units)
            return
        seat = Waiter(self, worker, units)
        worker.limiter.ask(what, seat)

    def took(self, worker: Worker, hold: Hold, units: int) -> None:
        taken = Taken(asyncio.get_running_loop().time(), worker, hold, units)
        self.taken.append(taken)
        self.open.append(taken)
        assert self.used(taken.at_s) <= AMOUNT

    def used(self, now_s: float) -> int:
        window = window_of(self.limit)
        length_s = window.length_us / 1e6 if window.shape is Shape.SLIDING else float("inf")
        return sum(taken.counts for taken in self.taken if taken.at_s > now_s - length_s)

    async def kill(self, number: int) -> None:
        self.killed += 1
        await self.workers[number].kill()
        self.open = [taken for taken in self.open if taken.worker is not self.workers[number]]
        self.workers[number] = self.new_worker(number)

    async def end(self) -> None:
        for store in self.stores:
            store.delay_s, store.down, store.deaf = 0.0, False, False
        await asyncio.sleep(4)
        for taken in self.open:
            taken.worker.limiter.settle(taken.hold, used(taken.counts))
        for worker in self.workers:
            await worker.stop()

    def stored(self) -> int:
        fields = held(self.client, self.keys, self.whose.rules("m")[0])
        in_hand = [value for name, value in fields.items() if name.startswith("w:") and value.split()[1] != "0"]
        assert self.killed or not in_hand
        return sum(int(value) for name, value in fields.items() if name.isdigit())


class Waiter(Seat):
    def __init__(self, world: World, worker: Worker, units: int) -> None:
        super().__init__()
        self._take = (world, worker, units)

    def granted(self, hold: Any) -> None:
        super().granted(hold)
        world, worker, units = self._take
        world.took(worker, hold, units)


def run(store: DirectStore, limit: LimitRule, steps: list[tuple[str, Any, Any]]) -> World:
    async def story() -> World:
        world = World(store.client, Keys(f"exact{next(_prefixes)}"), limit)
        for step in steps:
            await world.play(*step)
        await world.end()
        print("STAT", len(steps), len(world.taken), world.whose.rules("m")[0].rule.per, [s.calls for s in world.stores])
        return world

    return play(story())


@_hard_work
@given(steps=st.lists(st.one_of(usual, kills), min_size=20, max_size=70))
def test_no_window_ever_holds_more_than_the_amount(store: DirectStore, steps: list[tuple[str, Any, Any]]) -> None:
    """Checked at each admission, for the window that ends there."""
    run(store, rule("tokens", AMOUNT, "1m"), steps)


@_hard_work
@given(steps=st.lists(st.one_of(usual, usual, kills, outages), min_size=20, max_size=70))
def test_a_budget_is_never_overspent_through_kills_and_outages(
    store: DirectStore, steps: list[tuple[str, Any, Any]]
) -> None:
    world = run(store, rule("tokens", AMOUNT, "ever"), steps)
    assert world.used(0.0) <= AMOUNT


@_hard_work
@given(steps=st.lists(st.one_of(usual, outages), min_size=20, max_size=70))
def test_what_is_counted_in_the_end_is_what_was_used(store: DirectStore, steps: list[tuple[str, Any, Any]]) -> None:
    """Nothing is lost and nothing is counted twice, through lost answers and workers that come back from the dead."""
    world = run(store, rule("tokens", AMOUNT, "ever"), steps)
    assert world.stored() == sum(taken.counts for taken in world.taken)


@_hard_work
@given(steps=st.lists(st.one_of(usual, kills), min_size=20, max_size=70))
def test_what_a_dead_worker_had_in_hand_counts_as_used(store: DirectStore, steps: list[tuple[str, Any, Any]]) -> None:
    world = run(store, rule("tokens", AMOUNT, "ever"), steps)
    live = {id(worker) for worker in world.workers}
    assert world.stored() >= sum(taken.counts for taken in world.taken if id(taken.worker) in live)
