"""The controller's store on a real Redis: embedded on a socket, and over TCP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from models.control.history import Remembered
from models.control.recording import Arrivals, Step, decode_line
from models.control.store import LeaseLost, RedisControlStore
from models.store.keys import METERS_TTL_S, RECORDING_TTL_S, SNAPSHOT_TTL_S, Keys
from models.store.records import (
    CommandReply,
    ControlMeters,
    DecisionRecord,
    DemandReport,
    FleetRecord,
    ModelRecord,
    RouteTable,
    TransitionMeter,
)
from packers.decide import Policies
from packers.types import Plan, Snapshot
from packers.usage import Usage

pytestmark = pytest.mark.anyio
FLEET = FleetRecord(seq=7, updated_unix_s=1.0, controller_pid=1, routes_version=3)


def _decision(name: str) -> DecisionRecord:
    return DecisionRecord(id=name, at_unix_s=1.0, snapshot_id="7", action="start", model_id="a", reason="asked for")


@pytest.fixture
async def redis(url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(url)
    await client.flushall()
    yield client
    await client.aclose()


async def test_what_is_written_is_loaded_and_announced(redis: Redis) -> None:
    keys = Keys("t")
    store = RedisControlStore(redis, keys)
    await store.take_lease()
    assert await store.load() is None
    async with redis.pubsub() as channel:
        await channel.subscribe(keys.routes_channel)
        await channel.get_message(timeout=1)
        catalog: tuple[ModelRecord, ...] = ()
        await store.write(FLEET, RouteTable(version=3), catalog, (_decision("x"), _decision("y")))
        message = await channel.get_message(ignore_subscribe_messages=True, timeout=2)
    assert message is not None
    assert message["data"] == b"3"
    assert await store.load() == FLEET
    stored: Any = await redis.xrange(keys.decisions)
    assert [msgspec.json.decode(fields[b"d"], type=DecisionRecord).id for _, fields in stored] == ["x", "y"]


async def test_a_controller_that_lost_its_lease_writes_nothing(redis: Redis) -> None:
    keys = Keys("t")
    old, new = RedisControlStore(redis, keys), RedisControlStore(redis, keys)
    await old.take_lease()
    await new.take_lease()
    await new.write(FLEET, RouteTable(version=3), (), ())
    with pytest.raises(LeaseLost):
        await old.write(msgspec.structs.replace(FLEET, seq=99), RouteTable(version=9), (), (_decision("x"),))
    assert await new.load() == FLEET
    assert await redis.xlen(keys.decisions) == 0


async def test_replies_wait_for_whoever_asked(redis: Redis) -> None:
    keys = Keys("t")
    store = RedisControlStore(redis, keys)
    await store.reply(CommandReply(id="c1", ok=True, message="done"))
    popped: Any = await redis.blpop([keys.reply("c1")], timeout=1)
    assert msgspec.json.decode(popped[1], type=CommandReply).message == "done"


async def test_reports_of_live_workers_are_found_and_dead_ones_expire(redis: Redis) -> None:
    keys = Keys("t")
    store = RedisControlStore(redis, keys)
    report = DemandReport(worker="w", routes_version=1, sent_unix_s=2.0)
    await redis.set(keys.demand("w"), msgspec.json.encode(report), px=50)
    assert await store.demand("w") == report
    assert await store.all_demand() == [report]
    while await redis.exists(keys.demand("w")):
        await asyncio.sleep(0.01)
    assert await store.demand("w") is None
    assert await store.all_demand() == []


def _step() -> Step:
    snapshot = Snapshot("7", 1.0, (), (), (), ())
    return Step(snapshot=snapshot, policies=Policies(), plan=Plan("7", ()))


async def test_what_was_decided_last_is_shown_for_a_while(redis: Redis) -> None:
    keys = Keys("t")
    await RedisControlStore(redis, keys).show(_step())
    raw = await redis.get(keys.snapshot)
    assert raw is not None
    assert decode_line(raw) == _step()
    assert 0 < await redis.ttl(keys.snapshot) <= SNAPSHOT_TTL_S


async def test_lines_of_a_recording_are_numbered_and_expire(redis: Redis) -> None:
    keys = Keys("t")
    store = RedisControlStore(redis, keys)
    await store.record((_step(), Arrivals(at_s=1.0, model="a", count=2)))
    await store.record((Arrivals(at_s=2.0, model="a", count=1),))
    stored: Any = await redis.xrange(keys.recording)
    assert [int(fields[b"n"]) for _, fields in stored] == [1, 2, 3]
    assert decode_line(stored[1][1][b"l"]) == Arrivals(at_s=1.0, model="a", count=2)
    assert 0 < await redis.ttl(keys.recording) <= RECORDING_TTL_S


async def test_a_recording_that_nobody_reads_takes_only_so_much_memory(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.control.store.RECORDING_BYTES_MAX", 1000)
    keys = Keys("t")
    store = RedisControlStore(redis, keys)
    for number in range(100):
        await store.record((Arrivals(at_s=float(number), model="a", count=1),))
    assert await redis.xlen(keys.recording) < 30


async def test_what_is_known_of_the_past_is_there_for_the_next_controller(redis: Redis) -> None:
    keys = Keys("t")
    store = RedisControlStore(redis, keys)
    assert await store.recall() is None
    past = Remembered(
        usage={"a": Usage(arrivals=3, last_s=1.5)}, costs_s={"a": {"wake": (0.5, 0.25)}}, quarantined={"a": 2}
    )
    await store.remember(past)
    assert await RedisControlStore(redis, keys).recall() == past
    await redis.set(keys.history, b'{"usage": 7}')
    assert await store.recall() is None, "of another version: better no past than no controller"


async def test_what_the_controller_counts_is_there_for_a_while(redis: Redis) -> None:
    keys = Keys("t")
    meter = TransitionMeter(model_id="a", transition="wake", tier="host", counts=(0, 1), sum_s=0.2)
    meters = ControlMeters(bounds_s=(0.1,), transitions=(meter,), quarantined={"a": 1})
    await RedisControlStore(redis, keys).meter(meters)
    raw = await redis.get(keys.meters)
    assert raw is not None
    assert msgspec.json.decode(raw, type=ControlMeters) == meters
    assert 0 < await redis.ttl(keys.meters) <= METERS_TTL_S
