"""The meter as a process: ships, settles, is killed, and begins again where it was."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from gateway.billing.process import Meter, alone
from gateway.billing.shipper import Shipper
from models.home import Home
from models.store.client import PREFIX_ENV, URL_ENV, connect_async
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from models.store.meters import read_async
from models.store.usage import UsageEvent, Use
from tests.gateway.billing.gpu_worlds import MEMORY, occupant, picture
from tests.gateway.billing.ledger import SECOND_US, Ledger
from tests.gateway.metering.desk import START_S, Desk, Watch

pytestmark = pytest.mark.anyio
SOURCE = Path(__file__).parents[3]


@pytest.fixture
async def redis(redis_server: EmbeddedRedis) -> AsyncIterator[Redis]:
    client = connect_async(redis_server.url)
    yield client
    await client.aclose()


@pytest.fixture
def shipper(redis: Redis, keys: Keys, tmp_path: Path) -> Shipper:
    return Shipper(redis, keys, Home(tmp_path), "here", lambda: START_S + 100)


async def stream(redis: Redis, keys: Keys) -> list[UsageEvent]:
    found: Any = await redis.xrange(keys.usage_events)
    return [msgspec.json.decode(fields[b"e"], type=UsageEvent) for _, fields in found]


async def test_events_are_shipped_once_whoever_ships_them(shipper: Shipper, redis: Redis, keys: Keys) -> None:
    desk = Desk(shipper.home.root)
    for number in range(30):
        desk.over(desk.request(f"r{number}"))
    other = Shipper(redis, keys, shipper.home, "here", shipper.now)
    await asyncio.gather(shipper.step(), other.step())
    desk.over(desk.request("late"))
    await other.step()
    await shipper.step()
    assert [event.id for event in await stream(redis, keys)] == [*(f"r{number}" for number in range(30)), "late"]
    assert shipper.shipped + other.shipped == 31


async def test_what_the_store_has_forgotten_is_shipped_again(shipper: Shipper, redis: Redis, keys: Keys) -> None:
    desk = Desk(shipper.home.root)
    desk.over(desk.request("r1"))
    await shipper.step()
    offset = await redis.hget(keys.usage_shipped, "here/w1")
    desk.over(desk.request("r2"))
    await shipper.step()
    await redis.hset(keys.usage_shipped, "here/w1", offset)
    newest: Any = await redis.xrevrange(keys.usage_events, count=1)
    await redis.xdel(keys.usage_events, newest[0][0])
    await shipper.step()
    assert [event.id for event in await stream(redis, keys)] == ["r1", "r2"]


async def test_a_dead_workers_last_requests_are_shipped_and_its_spool_goes(
    shipper: Shipper, redis: Redis, keys: Keys
) -> None:
    desk = Desk(shipper.home.root)
    open_ = desk.request("open")
    desk.recorder.note(open_, desk.account)
    desk.tick(after_s=1.0)
    await shipper.step()
    assert set(await redis.hkeys(keys.usage_watermarks)) == {b"w1", b"machine:here"}
    desk.die()
    await shipper.step()
    (event,) = await stream(redis, keys)
    assert (event.id, event.cut) == ("open", True)
    assert await redis.hkeys(keys.usage_watermarks) == [b"machine:here"]
    assert await redis.hkeys(keys.usage_shipped) == []
    assert not desk.recorder.folder.exists()
    await shipper.leave()
    assert await redis.hkeys(keys.usage_watermarks) == []


async def test_a_spool_of_another_format_is_told_of_and_the_others_go_on(
    shipper: Shipper, redis: Redis, keys: Keys
) -> None:
    bad, good = Desk(shipper.home.root, worker="bad"), Desk(shipper.home.root, worker="good")
    good.over(good.request("r"))
    bad.die()
    state = bad.recorder.folder / "state"
    state.write_bytes(b"something else".ljust(state.stat().st_size, b"\0"))
    await shipper.step()
    assert "state" in shipper.problem
    assert [event.id for event in await stream(redis, keys)] == ["r"]


def test_one_meter_looks_after_a_machines_spools(tmp_path: Path) -> None:
    with alone(tmp_path / "spool") as first, alone(tmp_path / "spool") as second:
        assert (first, second) == (True, False)
    with alone(tmp_path / "spool") as again:
        assert again


class Meters:
    """Processes on one home, by number."""

    def __init__(self, url: str, keys: Keys, home: Home) -> None:
        self._env = {**os.environ, URL_ENV: url, PREFIX_ENV: keys.prefix, "PYTHONPATH": str(SOURCE)}
        self._command = [sys.executable, "-m", "gateway.billing", "--home", str(home.root)]
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self._command, env=self._env, stderr=subprocess.DEVNULL)
        self.processes.append(process)
        return process

    def kill_all(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()


@pytest.fixture
def meters(redis_server: EmbeddedRedis, keys: Keys, tmp_path: Path) -> Any:
    found = Meters(redis_server.url, keys, Home(tmp_path))
    yield found
    found.kill_all()


async def until(condition: Callable[[], Awaitable[bool]], limit_s: float = 60.0) -> None:
    async with asyncio.timeout(limit_s):
        while not await condition():
            await asyncio.sleep(0.05)


@pytest.mark.chaos
async def test_killed_again_and_again_it_bills_each_request_once(
    meters: Meters, redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    ledger = Ledger(redis, keys)
    await ledger.house()
    watch = Watch()
    begin_us = int((watch.unix_s + watch.at_s) * SECOND_US)
    ledger.now_us = begin_us
    await ledger.pictures([picture(begin_us, "g", occupant("m-1", MEMORY // 2))])
    asked = 0
    for round_ in range(4):
        desk = Desk(tmp_path, watch, worker=f"w{round_}")
        meters.start()
        for _ in range(10):
            for _ in range(40):
                request = desk.request(f"r{asked}")
                asked += 1
                watch.at_s += 0.003
                desk.over(request)
            desk.tick()
            await ledger.controller(int((watch.unix_s + watch.at_s) * SECOND_US))
            await asyncio.sleep(0.1)
        desk.die()
        if round_ < 3:
            meters.kill_all()
    watch.at_s += 2
    last = Desk(tmp_path, watch, worker="last")
    watch.at_s += 1
    last.tick()
    await ledger.controller(int((watch.unix_s + watch.at_s) * SECOND_US))

    async def all_settled() -> bool:
        return bool(await redis.xlen(keys.usage_settled) >= asked)

    await until(all_settled)
    ledger.now_us = int((watch.unix_s + watch.at_s) * SECOND_US)
    settled = await ledger.settled()
    assert sorted(one.id for one in settled) == sorted(f"r{number}" for number in range(asked))
    totals = await ledger.totals()
    assert totals["requests"] == asked
    assert totals["cost"] == sum(one.cost for one in settled)
    assert totals["gpu_ns"] == sum(one.gpu_ns for one in settled) == (await ledger.gpu_totals())[Use.BUSY]


@pytest.mark.chaos
async def test_it_waits_for_the_store_and_takes_its_leave(
    meters: Meters, redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    desk = Desk(tmp_path)
    process = meters.start()

    async def tells() -> bool:
        return any(one.settles and one.spools == 1 and not one.problem for one in await read_async(redis, keys))

    await until(tells)
    desk.over(desk.request("r"))
    desk.die()
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 20) == 0
    assert [event.id for event in await stream(redis, keys)] == ["r"], "the last word"
    assert await redis.exists(keys.usage_lease) == 0
    assert await redis.hkeys(keys.usage_watermarks) == []


@pytest.mark.long
@pytest.mark.chaos
@pytest.mark.parametrize("how", ["killed", "silent"])
async def test_what_was_used_while_the_store_was_away_is_billed_once_when_it_is_back(
    how: str, keys: Keys, sockets: Path, tmp_path: Path
) -> None:
    """R7: within 10 s of its return."""
    with EmbeddedRedis(Home(sockets).create()) as server:
        meters = Meters(server.url, keys, Home(tmp_path))
        async with connect_async(server.url) as redis:
            ledger = Ledger(redis, keys)
            await ledger.house()
            watch = Watch()
            desk = Desk(tmp_path, watch)
            await ledger.pictures([picture(ledger_us(watch), "g", occupant("m-1", MEMORY))])
            meters.start()
            try:
                await use(desk, 200)
                assert server.pid is not None
                if how == "killed":
                    server.kill()
                else:
                    os.kill(server.pid, signal.SIGSTOP)
                await use(desk, 2000)
                await asyncio.sleep(7.0)
                await use(desk, 200)
                if how == "killed":
                    server.start()
                else:
                    os.kill(server.pid, signal.SIGCONT)
                watch.at_s += 2
                desk.tick()
                await ledger.controller(ledger_us(watch))

                async def all_settled() -> bool:
                    return bool(await redis.xlen(keys.usage_settled) >= 2400)

                await until(all_settled, limit_s=30.0)
                settled = await ledger.settled()
                assert len({one.id for one in settled}) == len(settled) == 2400
                ledger.now_us = ledger_us(watch)
                assert (await ledger.totals())["requests"] == 2400
            finally:
                meters.kill_all()


def ledger_us(watch: Watch) -> int:
    return int((watch.unix_s + watch.at_s) * SECOND_US)


async def use(desk: Desk, requests: int) -> None:
    for _ in range(requests):
        request = desk.request(f"r{desk.watch.at_s:.6f}")
        desk.watch.at_s += 0.001
        desk.over(request)
    desk.tick()
    await asyncio.sleep(0.7)


async def test_operators_are_told_when_bills_get_old(redis: Redis, keys: Keys, tmp_path: Path) -> None:
    watch = Watch()
    ledger = Ledger(redis, keys)
    meter = Meter(redis, keys, Home(tmp_path), "here", watch.clock(), "token")
    await ledger.controller(ledger_us(watch))
    await meter.settler.step()
    meter._settles, meter._since_s = True, watch.at_s

    async def alerts() -> int:
        await meter._tell()
        return int(await redis.xlen(keys.alerts))

    assert await alerts() == 0
    watch.at_s += 100
    assert await alerts() == 0, "not for a short while"
    watch.at_s += 30
    assert [await alerts(), await alerts()] == [1, 1], "once"
    assert meter.status().waits_for == "the controller"
    await ledger.controller(ledger_us(watch))
    await meter.settler.step()
    assert await alerts() == 1
    watch.at_s += 200
    assert await alerts() == 2, "it is another time"
