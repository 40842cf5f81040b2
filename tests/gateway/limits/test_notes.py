"""What a dead worker had reserved of a budget goes back, and what it used is charged: to the unit, whatever happens."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.billing.remains import charges_of
from gateway.limits.notes import concerns, notes_of, set_right
from gateway.limits.script import LEASE_US
from models.store.client import connect_async
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from models.store.remains import Spent
from tests.gateway.limits import test_exact as exact
from tests.gateway.limits.stage import DirectStore, Worker, account, held, need, rule, used
from tests.gateway.virtual_time import EPOCH_UNIX_S, loop_clock, play

DAY_S = 86_400
_prefixes = itertools.count()


def at_once(act: Coroutine[Any, Any, Any]) -> None:
    """Beside the loop of virtual time, which no network can be waited for on."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, act).result()


async def put_right(url: str, keys: Keys, worker: str, spent: list[Spent]) -> None:
    """As the meter does, but killed once with half of it done and then begun anew."""
    async with connect_async(url) as redis:
        notes = await notes_of(redis, keys, worker)
        for note in (*notes[: len(notes) // 2], *notes):
            await set_right(redis, keys, worker, note, charges_of(note, spent))
        assert await notes_of(redis, keys, worker) == []
        assert await redis.exists(keys.limit_notes(worker)) == 0


def spent(end: int, tokens: int, at_s: float = 0.0) -> Spent:
    return Spent(
        end=end, key_id="k1", project="p", tenant="acme", model="m", started_us=int((EPOCH_UNIX_S + at_s) * 1e6),
        requests=1, input_tokens=tokens // 2, output_tokens=tokens - tokens // 2, gpu_us=7, cost=11 * tokens,
    )  # fmt: skip


def counted(store: DirectStore, keys: Keys, whose: Any, number: int = 0) -> int:
    fields = held(store.client, keys, whose.rules("m")[number])
    return sum(int(value) for name, value in fields.items() if name.isdigit())


def notes(store: DirectStore, keys: Keys, whose: Any) -> dict[str, str]:
    return {name: text for name, text in held(store.client, keys, whose.rules("m")[0]).items() if name[:2] == "o:"}


def test_reports_say_what_is_only_reserved_and_leave_nothing_behind(store: DirectStore, keys: Keys) -> None:
    caller, written = account(rule("tokens", 1000, "day")), [40]

    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        worker.limiter.follow(lambda: written[0])
        first, second = [await worker.take(need(caller, units)) for units in (100, 200)]
        await asyncio.sleep(0.2)
        (note,) = notes(store, keys, caller).values()
        assert [note.split()[0], note.split()[2]] == ["40", "300"]
        written[0] = 50
        worker.limiter.settle(first, used(30))
        await asyncio.sleep(0.2)
        (note,) = notes(store, keys, caller).values()
        assert [note.split()[0], note.split()[2]] == ["50", "200"]
        worker.limiter.settle(second, used(200))
        await asyncio.sleep(5)
        assert notes(store, keys, caller) == {}, "nothing is under way for a while"
        assert store.client.exists(keys.limit_notes("w1")) == 0
        third = await worker.take(need(caller, 10))
        await asyncio.sleep(0.2)
        assert len(notes(store, keys, caller)) == 1
        worker.limiter.settle(third, used(10))
        await worker.stop()
        assert notes(store, keys, caller) == {}
        assert store.client.exists(keys.limit_notes("w1")) == 0

    play(story())
    assert counted(store, keys, caller) == 240


def test_what_only_runs_is_noted_again_from_time_to_time(store: DirectStore, keys: Keys) -> None:
    """So that the log of a worker that is killed need not be read from far back."""
    caller, written = account(rule("tokens", 1000, "day")), [1]

    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        worker.limiter.follow(lambda: written[0])
        await worker.take(need(caller, 100))
        await asyncio.sleep(1)
        written[0] = 2
        await asyncio.sleep(16)
        assert [text.split()[0] for text in notes(store, keys, caller).values()] == ["2"]
        await worker.kill()

    play(story())


def test_rates_are_not_noted(store: DirectStore, keys: Keys) -> None:
    caller = account(rule("tokens", 1000), rule("concurrent", 3))

    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        await worker.take(need(caller, 100))
        await asyncio.sleep(0.2)
        assert notes(store, keys, caller) == {}
        assert store.client.exists(keys.limit_notes("w1")) == 0
        await worker.kill()

    play(story())


def test_what_a_dead_worker_had_reserved_goes_back_and_what_it_used_is_charged(
    redis_server: EmbeddedRedis, store: DirectStore, keys: Keys
) -> None:
    caller = account(rule("tokens", 1000, "day"), rule("requests", 10, "ever"), rule("money", 1, "month"))

    async def story() -> None:
        worker, other = (Worker(store, keys, loop_clock(), name, workers=2) for name in ("w1", "w2"))
        worker.limiter.follow(lambda: 40)
        done = await worker.take(need(caller, 100))
        worker.limiter.settle(done, used(60))
        for _ in range(3):
            await worker.take(need(caller, 200))
        await asyncio.sleep(0.2)
        await worker.kill()
        await asyncio.sleep(LEASE_US / 1e6 + 1)
        assert await other.tries(need(caller, 400), 1) == 0, "all of it is reserved"
        at_once(put_right(redis_server.url, keys, "w1", [spent(40, 60), spent(41, 150), spent(90, 7)]))
        await asyncio.sleep(0.2)
        assert await other.tries(need(caller, 780), 1) == 1
        assert await other.tries(need(caller, 4), 1) == 0, "but for three it is used up"
        await other.stop()

    play(story())
    assert counted(store, keys, caller) == 60 + 150 + 7 + 780
    assert counted(store, keys, caller, 1) == 4
    assert counted(store, keys, caller, 2) == 11 * 157
    assert not {name[:3] for name in held(store.client, keys, caller.rules("m")[0])} & {"x:w1", "w:w1", "o:w1"}


def test_each_period_has_back_what_was_reserved_in_it(
    redis_server: EmbeddedRedis, store: DirectStore, keys: Keys
) -> None:
    caller = account(rule("tokens", 1000, "day"))

    async def story() -> None:
        worker = Worker(store, keys, loop_clock())
        await asyncio.sleep(DAY_S - EPOCH_UNIX_S % DAY_S - 10)
        await worker.take(need(caller, 100))
        await asyncio.sleep(20)
        await worker.take(need(caller, 200))
        await asyncio.sleep(1)
        await worker.kill()
        end_s = asyncio.get_running_loop().time()
        at_once(put_right(redis_server.url, keys, "w1", [spent(1, 30, end_s - 21), spent(2, 50, end_s - 1)]))

    play(story())
    fields = held(store.client, keys, caller.rules("m")[0])
    assert [int(fields[name]) for name in sorted(fields) if name.isdigit()] == [30, 50]


def test_where_nobody_knows_what_was_used_what_was_reserved_stays(
    redis_server: EmbeddedRedis, store: DirectStore, keys: Keys
) -> None:
    caller = account(rule("tokens", 1000, "day"))

    async def give_up() -> None:
        async with connect_async(redis_server.url) as redis:
            (note,) = await notes_of(redis, keys, "w1")
            assert await set_right(redis, keys, "w1", note, None)
            assert not await set_right(redis, keys, "w1", note, {}), "once"

    async def story() -> None:
        worker, other = (Worker(store, keys, loop_clock(), name, workers=2) for name in ("w1", "w2"))
        await worker.take(need(caller, 100))
        await asyncio.sleep(0.2)
        await worker.take(need(caller, 200))  # the store knows of it as a lease
        await worker.kill()
        at_once(give_up())
        assert await other.tries(need(caller, 701), 1) == 0
        await asyncio.sleep(LEASE_US / 1e6 + 1)
        assert await other.tries(need(caller, 701), 1) == 0
        assert await other.tries(need(caller, 700), 1) == 1
        await other.stop()

    play(story())
    assert counted(store, keys, caller) == 1000


def test_whom_a_rule_concerns() -> None:
    one = {"key_id": "k1", "project": "p", "tenant": "acme", "model": "acme/m"}
    mine = account(rule("tokens", 5, "day", models="acme/*"), tenant=(rule("money", 1, "day", models="b*"),))
    key, tenant = mine.every_rule()
    assert concerns(key, **one)
    assert not concerns(key, **one | {"key_id": "k2"})
    assert not concerns(tenant, **one)
    assert concerns(tenant, **one | {"key_id": "k2", "project": "q", "model": "b"})


@dataclass
class Life:
    """A worker and its log, in which an event's end is its number."""

    name: str
    log: list[Spent] = field(default_factory=list)


@dataclass
class World(exact.World):
    """In which what dead workers leave is put right."""

    url: str = ""
    lives: dict[int, Life] = field(default_factory=dict)
    dead: list[Life] = field(default_factory=list)

    def new_worker(self, number: int) -> Worker:
        life = Life(f"w{number}-{next(_prefixes)}")
        worker = Worker(self.stores[number], self.keys, loop_clock(), life.name, workers=3)
        worker.limiter.follow(lambda: len(life.log))
        self.lives[id(worker)] = life
        return worker

    def write(self, taken: exact.Taken) -> None:
        """Its event, as it ends."""
        log = self.lives[id(taken.worker)].log
        log.append(spent(len(log) + 1, taken.counts, taken.at_s))

    async def play(self, does: str, one: Any, two: Any) -> None:
        if does == "settle" and self.open:
            taken = self.open.pop(one % len(self.open))
            taken.counts = taken.counts * two // 100
            self.write(taken)
            taken.worker.limiter.settle(taken.hold, used(taken.counts))
        elif does == "right" and self.dead:
            self.put_right(self.dead.pop(one % len(self.dead)))
        else:
            await super().play(does, one, two)

    async def kill(self, number: int) -> None:
        life = self.lives[id(self.workers[number])]
        for taken in self.open:
            if taken.worker is self.workers[number]:
                taken.counts = taken.counts * 2 // 3  # so far had been passed on
                self.write(taken)
        self.waiting = []
        await super().kill(number)
        self.dead.append(life)

    def put_right(self, life: Life) -> None:
        at_once(put_right(self.url, self.keys, life.name, life.log))

    async def end(self) -> None:
        await super().end()
        for life in self.dead:
            self.put_right(life)


rights = st.tuples(st.just("right"), st.integers(0, 5), st.just(0))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    steps=st.lists(st.one_of(exact.usual, exact.usual, exact.kills, exact.outages, rights), min_size=20, max_size=70),
    per=st.sampled_from(["ever", "day"]),
)
def test_what_is_counted_in_the_end_is_what_was_used_through_all_deaths(
    redis_server: EmbeddedRedis, store: DirectStore, steps: list[tuple[str, Any, Any]], per: str
) -> None:
    async def story() -> World:
        keys, limit = Keys(f"notes{next(_prefixes)}"), rule("tokens", exact.AMOUNT, per)
        world = World(store.client, keys, limit, url=redis_server.url)
        for step in steps:
            await world.play(*step)
        await world.end()
        return world

    world = play(story())
    assert world.stored() == sum(taken.counts for taken in world.taken)
    fields = held(store.client, world.keys, world.whose.rules("m")[0])
    assert not [name for name in fields if name[:2] == "o:"]
