"""Budgets of workers that were killed: in the end they hold what was billed, to the unit."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.accounts import Account
from gateway.billing.books import Overtaken
from gateway.billing.settler import Settler
from gateway.billing.shipper import Shipper
from gateway.clock import Clock
from gateway.exchange import Usage
from gateway.limits.notes import about_of, note_of, notes_of
from gateway.limits.windows import window_of
from models.home import Home
from models.store.client import connect_async
from models.store.codec import encode
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from models.store.tenancy import TenantRecord, What
from models.store.usage import Phase, SettledEvent
from tests.gateway.billing.gpu_worlds import MEMORY, occupant, picture
from tests.gateway.billing.ledger import SECOND_US, Ledger
from tests.gateway.billing.spender import HOUSE as SPENDERS_HOUSE
from tests.gateway.billing.spender import caller
from tests.gateway.billing.test_process import Meters, until
from tests.gateway.limits.stage import account, rule
from tests.gateway.metering.desk import Desk, Request, Watch

pytestmark = pytest.mark.anyio


@pytest.fixture
async def redis(redis_server: EmbeddedRedis) -> AsyncIterator[Redis]:
    client = connect_async(redis_server.url)
    yield client
    await client.aclose()


@dataclass
class Scene:
    """A worker ``w1`` whose budget has 1000 reserved and 400 used, and its meter, in the hands of the test."""

    redis: Redis
    keys: Keys
    folder: Path
    whose: Account
    watch: Watch = field(default_factory=Watch)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.redis, self.keys)
        self.desk = Desk(self.folder, self.watch)
        self.settler = self.new_settler()

    def new_settler(self) -> Settler:
        return Settler(self.redis, self.keys, lambda: self.now_us / SECOND_US)

    @property
    def now_us(self) -> int:
        return int((self.watch.unix_s + self.watch.at_s) * SECOND_US)

    @property
    def key(self) -> str:
        placed = self.whose.rules("m")[0]
        return self.keys.limit(placed.place, placed.rule.name)

    async def begin(self) -> None:
        await self.ledger.house()
        await self.ledger.pictures([picture(self.now_us // SECOND_US * SECOND_US, "g", occupant("m-1", MEMORY // 2))])

    async def reports(self, reserved: int = 1000, used: int = 400) -> None:
        """As the limiter does (``gateway.limits.script``)."""
        placed = self.whose.rules("m")[0]
        slot = window_of(placed.rule).slot(self.now_us)
        note = note_of(self.desk.recorder.written, {slot: reserved})
        await self.redis.hset(self.key, mapping={str(slot): reserved + used, "o:w1": note, "t": self.now_us})
        await self.redis.hset(self.keys.limit_notes("w1"), self.key, about_of(placed))

    def request(self, name: str, **facts: Any) -> Request:
        given = {"key_id": "k1", "project": "p", "tenant": "acme"} | facts
        return self.desk.request(name, **given)

    async def ship(self) -> None:
        await Shipper(self.redis, self.keys, Home(self.folder), "here", lambda: self.now_us / SECOND_US).step()

    async def settle(self, after_s: float = 3.0) -> None:
        self.watch.at_s += after_s
        await self.ship()
        await self.ledger.controller(self.now_us)
        while await self.settler.step():
            pass

    async def counted(self) -> int:
        fields: Any = await self.redis.hgetall(self.key)
        return sum(int(value) for name, value in fields.items() if name.isdigit())

    async def is_over(self) -> bool:
        left = await self.redis.exists(self.keys.limit_notes("w1"), self.keys.usage_remains)
        return not left and not await self.redis.hexists(self.key, "o:w1")


@pytest.fixture
async def scene(redis: Redis, keys: Keys, tmp_path: Path) -> Scene:
    made = Scene(redis, keys, tmp_path, account(rule("tokens", 10**6, "month")))
    await made.begin()
    return made


async def die_with_three(scene: Scene) -> None:
    """One that is told of, one that ends after that, one that is cut off, and one of somebody else's."""
    first, second, third = (scene.request(name) for name in ("told", "ended", "open"))
    other = scene.request("other", key_id="k2", endpoint="embeddings")
    for one in (first, second, third, other):
        one.exchange.status = 200  # its answer has begun
        scene.desk.note(one)
    scene.watch.at_s += 1
    scene.desk.over(first, Usage(prompt=70, completion=30))
    await scene.reports()
    scene.watch.at_s += 1
    scene.desk.over(second, Usage(prompt=7, completion=3))
    scene.desk.over(other, Usage(prompt=700, completion=300))
    assert third.slot is not None
    third.slot.count(11, 9)
    scene.desk.tick(third)
    scene.desk.die()


async def test_what_was_used_since_the_last_report_is_charged_instead_of_what_was_reserved(scene: Scene) -> None:
    await die_with_three(scene)
    assert await scene.counted() == 1400
    await scene.settle()
    await scene.settle()
    assert await scene.counted() == 400 + 10 + 20
    assert await scene.is_over()
    await scene.settle()
    assert await scene.counted() == 430


@pytest.mark.parametrize(("what", "used"), [("requests", 2), ("input_tokens", 18), ("output_tokens", 12)])
async def test_each_rule_by_what_it_limits(scene: Scene, what: str, used: int) -> None:
    scene.whose = account(rule(what, 10**6, "month"))
    await die_with_three(scene)
    await scene.settle()
    await scene.settle()
    assert await scene.counted() == 400 + used


@pytest.mark.parametrize("what", ["gpu_seconds", "money"])
async def test_gpu_time_and_money_are_what_was_settled(scene: Scene, what: str) -> None:
    scene.whose = account(rule(what, 10**6, "month"))
    await die_with_three(scene)
    await scene.settle()
    await scene.settle()
    last = {one.id: one for one in await scene.ledger.settled() if one.id in ("ended", "open")}
    assert len(last) == 2
    used = [round(one.gpu_ns / 1000) if what == "gpu_seconds" else one.cost for one in last.values()]
    assert min(used) > 0
    assert await scene.counted() == 400 + sum(used)


async def test_a_start_that_it_waited_for_is_charged_once(scene: Scene) -> None:
    """Starts are charged as they are settled (``gateway.billing.late_charges``), whoever has died."""
    limit = rule("money", 100, "month")
    scene.whose = account(tenant=(limit,))
    await scene.redis.hset(scene.keys.tenants, "acme", encode(TenantRecord("acme", limits=(limit,))))
    await scene.redis.incr(scene.keys.tenancy_version)
    starting = [picture(scene.now_us, "g2", occupant("m-2", MEMORY, Phase.STARTING))]
    scene.watch.at_s += 3
    await scene.ledger.pictures([*starting, picture(scene.now_us, "g2", occupant("m-2", MEMORY))])
    await scene.reports()
    request = scene.request("r", replica="m-2", wake_s=3.0)
    scene.watch.at_s += 0.5
    scene.desk.over(request, Usage(prompt=6, completion=4))
    scene.desk.die()
    await scene.settle()
    await scene.settle()
    await scene.settle()
    (settled,) = await scene.ledger.settled()
    assert settled.start_gpu_ns == 3 * 10**9
    assert 0 < settled.lines["start_gpu_second"] < settled.cost
    assert await scene.counted() == 400 + settled.cost
    assert await scene.is_over()


async def test_nothing_is_given_back_before_all_is_known(scene: Scene) -> None:
    """Else a budget could be overspent meanwhile."""
    await die_with_three(scene)
    await scene.ship()
    for _ in range(3):  # the controller is away
        scene.watch.at_s += 5
        await scene.ship()
        await scene.settler.step()
        assert await scene.counted() == 1400
    await scene.settle()
    await scene.settle()
    assert await scene.counted() == 430


async def test_what_was_settled_before_its_death_was_known_counts_as_well(scene: Scene) -> None:
    """The worker's reports did not get through, and its log did."""
    await scene.reports()
    for number in range(5):
        request = scene.request(f"r{number}")
        scene.watch.at_s += 0.5
        scene.desk.over(request, Usage(prompt=60, completion=40))
    scene.desk.tick(after_s=2)
    await scene.settle(0)
    assert len(await scene.ledger.settled()) == 5
    scene.desk.die()
    await scene.settle()
    await scene.settle()
    assert await scene.counted() == 400 + 500
    assert await scene.is_over()


async def test_where_it_cannot_be_found_any_more_what_was_reserved_stays_counted(scene: Scene) -> None:
    await scene.reports()
    scene.desk.over(scene.request("r"), Usage(prompt=60, completion=40))
    scene.desk.tick(after_s=2)
    await scene.settle(0)
    await scene.redis.delete(scene.keys.usage_settled)
    scene.desk.die()
    await scene.settle()
    await scene.settle()
    assert await scene.counted() == 1400
    assert await scene.is_over()


async def test_a_worker_that_ends_in_order_has_nothing_to_be_set_right(scene: Scene) -> None:
    scene.desk.over(scene.request("r"))
    scene.desk.recorder.close()
    await scene.settle()
    assert await scene.redis.exists(scene.keys.usage_remains) == 0


async def test_two_workers_of_before_are_told_apart(scene: Scene) -> None:
    """Callers may give all of their requests one name."""
    await scene.reports()
    for _ in range(3):
        request = scene.request("same")
        scene.watch.at_s += 0.1
        scene.desk.over(request, Usage(prompt=6, completion=4))
    scene.desk.die()
    await scene.settle()
    await scene.settle()
    assert await scene.counted() == 430


class Cut(Exception):
    """The process is killed here."""


class Fragile:
    """A client that is cut off before its call of that number; what was sent before is done."""

    def __init__(self, redis: Redis, calls: int) -> None:
        self._redis, self._left = redis, calls

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Cut

    def register_script(self, text: str) -> Any:
        script = self._redis.register_script(text)

        async def run(*given: Any, **named: Any) -> Any:
            self._count()
            return await script(*given, **named)

        return run

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._redis, name)
        if name == "pipeline":
            return found

        async def run(*given: Any, **named: Any) -> Any:
            self._count()
            return await found(*given, **named)

        return run


async def test_it_is_done_once_wherever_the_meter_is_killed(scene: Scene) -> None:
    """After each number of calls to the store, one more each time, until it comes through."""
    await die_with_three(scene)
    scene.watch.at_s += 3
    await scene.ledger.controller(scene.now_us)
    redis, now = scene.redis, lambda: scene.now_us / SECOND_US
    deaths = 0
    for calls in range(200):
        fragile: Any = Fragile(redis, calls)
        settler = Settler(fragile, scene.keys, now)
        try:
            await Shipper(fragile, scene.keys, Home(scene.folder), "here", now).step()
            for _ in range(3):
                with contextlib.suppress(Overtaken):
                    while await settler.step():
                        pass
        except Cut:
            deaths += 1
            assert await scene.counted() in (1400, 430)
            continue
        if await scene.is_over():
            break
    assert deaths > 10
    assert await scene.counted() == 430
    assert len(await scene.ledger.settled()) == 4


class Spenders:
    """Processes, by name."""

    def __init__(self, url: str, keys: Keys, home: Path) -> None:
        self._given = [url, keys.prefix, str(home)]
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.gateway.billing.spender", *self._given, name]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.processes.append(process)
        return process

    def kill_all(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


async def budgets(redis: Redis, keys: Keys) -> list[int]:
    found = []
    for placed in caller().rules("m"):
        fields: Any = await redis.hgetall(keys.limit(placed.place, placed.rule.name))
        assert not [name for name in fields if name[:2] in (b"o:", b"x:")]
        found.append(sum(int(value) for name, value in fields.items() if name.isdigit()))
    return found


def billed(settled: Sequence[SettledEvent]) -> list[int]:
    sums: Counter[What] = Counter()
    for one in settled:
        sums[What.TOKENS] += one.prompt_tokens + one.completion_tokens
        sums[What.OUTPUT_TOKENS] += one.completion_tokens
        sums[What.MONEY] += one.cost
        sums[What.REQUESTS] += one.status < 500
    return [sums[placed.rule.what] for placed in caller().rules("m")]


@pytest.mark.long
@pytest.mark.chaos
async def test_budgets_hold_what_was_billed_after_workers_and_meters_were_killed_again_and_again(
    redis_server: EmbeddedRedis, redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    ledger, clock, rng = Ledger(redis, keys), Clock(), random.Random(7)
    await ledger.house(SPENDERS_HOUSE)
    now_us = int(clock.steady()) * SECOND_US
    await ledger.pictures([picture(now_us, "g", occupant("m-1", MEMORY))])
    spenders = Spenders(redis_server.url, keys, tmp_path)
    meters = Meters(redis_server.url, keys, Home(tmp_path))

    async def draw() -> None:
        while True:
            await ledger.controller(int(clock.steady() * SECOND_US))
            await asyncio.sleep(0.2)

    drawing = asyncio.create_task(draw())
    reserved_by_dead = 0
    try:
        for round_ in range(3):
            started = [spenders.start(f"s{round_}-{number}") for number in range(2)]
            for number, process in enumerate(started):
                assert process.stdout is not None
                assert await asyncio.to_thread(process.stdout.readline) == b"spending\n"
                meters.start()
                await asyncio.sleep(0.3 + rng.random())
                process.send_signal(signal.SIGKILL)
                await asyncio.to_thread(process.wait)
                notes = await notes_of(redis, keys, f"s{round_}-{number}")
                reserved_by_dead += sum(sum(note.held.values()) for note in notes)
                await asyncio.sleep(rng.random() * 0.8)
                meters.kill_all()
        meters.start()

        async def is_over() -> bool:
            names = [f"s{round_}-{number}" for round_ in range(3) for number in range(2)]
            left: Any = await redis.exists(*(keys.limit_notes(name) for name in names), keys.usage_remains)
            return not left and not list((tmp_path / "spool").glob("s*"))

        await until(is_over)
        settled = await ledger.settled()
        cut = sum(one.cut for one in settled)
        print(f"{len(settled)} requests, {cut} cut off; dead workers had {reserved_by_dead} reserved")
        assert cut > 0
        assert reserved_by_dead > 0
        assert await budgets(redis, keys) == billed(settled)
    finally:
        drawing.cancel()
        spenders.kill_all()
        meters.kill_all()
