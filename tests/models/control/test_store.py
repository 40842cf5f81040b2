"""The controller's store on a real Redis: embedded on a socket, and over TCP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from models.clock import SinceBoot
from models.control.history import Remembered
from models.control.recording import Arrivals, Step, decode_line
from models.control.store import LeaseLost, RedisControlStore, StateForgotten
from models.store.inspection import LEASE_S
from models.store.keys import METERS_TTL_S, RECORDING_TTL_S, SNAPSHOT_TTL_S, Keys
from models.store.records import (
    Command,
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
    store = RedisControlStore(redis, keys, machine=lambda: SinceBoot("this boot", 5.0))
    assert await store.fence.take() == 1
    assert await store.load() is None
    async with redis.pubsub() as channel:
        await channel.subscribe(keys.routes_channel)
        await channel.get_message(timeout=1)
        catalog: tuple[ModelRecord, ...] = ()
        await store.write(FLEET, RouteTable(version=3), catalog, (_decision("x"), _decision("y")))
        message = await channel.get_message(ignore_subscribe_messages=True, timeout=2)
    assert message is not None
    assert message["data"] == b"3"
    assert await store.load() == msgspec.structs.replace(FLEET, epoch=1, boot="this boot", since_boot_s=5.0)
    assert await redis.get(keys.controller_lease) == b"1"
    assert 0 < await redis.pttl(keys.controller_lease) <= LEASE_S * 1000
    routes = await redis.get(keys.routes)
    assert routes is not None
    assert msgspec.json.decode(routes, type=RouteTable).written_unix_s == FLEET.updated_unix_s
    stored: Any = await redis.xrange(keys.decisions)
    assert [msgspec.json.decode(fields[b"d"], type=DecisionRecord).id for _, fields in stored] == ["x", "y"]


async def test_a_controller_that_is_not_in_office_writes_nothing_at_all(redis: Redis) -> None:
    keys = Keys("t")
    old, new = RedisControlStore(redis, keys), RedisControlStore(redis, keys)
    await old.fence.take()
    await new.fence.take()
    await new.write(FLEET, RouteTable(version=3), (), ())
    await redis.delete(keys.controller_lease)  # it has expired: that makes nobody rightful
    before = await dump(redis)
    for attempt in (
        old.write(msgspec.structs.replace(FLEET, seq=99), RouteTable(version=9), (), (_decision("x"),)),
        old.reply(CommandReply(id="c1", ok=True, message="done")),
        old.remember(Remembered()),
        old.meter(ControlMeters()),
        old.show(_step()),
        old.record((Arrivals(at_s=1.0, model="a", count=1),)),
        old.fence.restore(),
    ):
        with pytest.raises(LeaseLost, match="controller 2 is in office; this one was number 1"):
            await attempt
    assert await dump(redis) == before


async def dump(redis: Redis) -> dict[bytes | str, bytes | None]:
    return {key: await redis.dump(key) for key in await redis.keys("*")}


async def test_where_the_store_was_emptied_nobody_writes_before_the_nodes_have_spoken(redis: Redis) -> None:
    keys = Keys("t")
    store = RedisControlStore(redis, keys)
    await store.fence.take()
    await redis.flushall()
    with pytest.raises(StateForgotten, match="no controller where 1 is in office"):
        await store.write(FLEET, RouteTable(version=3), (), ())
    assert await redis.keys("*") == []
    await store.fence.restore()
    await store.write(FLEET, RouteTable(version=3), (), ())
    assert await redis.get(keys.controller_epoch) == b"1"


async def test_an_older_copy_of_the_store_makes_nobody_rightful(redis: Redis) -> None:
    """Restored from a backup: the epoch in it is of a controller long gone."""
    keys = Keys("t")
    store = RedisControlStore(redis, keys)
    await store.fence.take(above=8)
    await redis.set(keys.controller_epoch, 4)
    with pytest.raises(StateForgotten, match="controller 4 where 9 is in office"):
        await store.meter(ControlMeters())
    assert await RedisControlStore(redis, keys).fence.take(above=9) == 10


async def test_nonsense_under_the_epoch_counts_as_forgotten(redis: Redis) -> None:
    keys = Keys("t")
    await redis.set(keys.controller_epoch, "what is this")
    store = RedisControlStore(redis, keys)
    with pytest.raises(StateForgotten):
        await store.meter(ControlMeters())
    assert await store.fence.take(above=3) == 4


async def test_a_write_whose_answer_was_lost_is_tried_again_and_notes_nothing_twice(redis: Redis) -> None:
    keys = Keys("t")
    store = RedisControlStore(redis, keys)
    await store.fence.take()
    await store.write(FLEET, RouteTable(version=1), (), (_decision("a"),))
    counted = store._decisions
    await store.write(FLEET, RouteTable(version=2), (), (_decision("b"), _decision("c")))
    store._decisions = counted  # its answer never came
    await store.write(FLEET, RouteTable(version=3), (), (_decision("b"), _decision("c"), _decision("d")))
    await store.write(FLEET, RouteTable(version=4), (), (_decision("e"),))
    assert await noted(redis, keys) == ["a", "b", "c", "d", "e"]
    successor = RedisControlStore(redis, keys)
    await successor.fence.take()
    await successor.write(FLEET, RouteTable(version=5), (), (_decision("f"),))
    assert await noted(redis, keys) == ["a", "b", "c", "d", "e", "f"]


async def noted(redis: Redis, keys: Keys) -> list[str]:
    stored: Any = await redis.xrange(keys.decisions)
    return [msgspec.json.decode(fields[b"d"], type=DecisionRecord).id for _, fields in stored]


async def test_what_others_put_where_decisions_go_is_moved_aside(redis: Redis) -> None:
    keys = Keys("t")
    store = RedisControlStore(redis, keys)
    await store.fence.take()
    await redis.rpush(keys.decisions, "not ours")
    await store.write(FLEET, RouteTable(version=1), (), (_decision("a"),))
    assert await noted(redis, keys) == ["a"]
    assert await redis.lrange(keys.set_aside(keys.decisions), 0, -1) == [b"not ours"]


@pytest.mark.parametrize("written", [b"{half a rec", b'{"seq": "seven"}', b"\xff\xfe"])
async def test_a_state_that_nobody_can_read_is_kept_for_whoever_asks_and_told_to_operators(
    redis: Redis, written: bytes
) -> None:
    keys = Keys("t")
    await redis.set(keys.fleet, written)
    store = RedisControlStore(redis, keys)
    await store.fence.take()
    assert await store.load() is None
    assert await redis.get("t:set-aside:fleet") == written
    await store.write(FLEET, RouteTable(version=1), (), ())
    fleet = await store.load()
    assert fleet is not None
    (problem,) = fleet.problems
    assert "t:fleet could not be read" in problem
    assert "t:set-aside:fleet" in problem
    assert "drained by hand" in problem


async def test_a_state_of_a_later_version_is_read_but_for_what_is_new_in_it(redis: Redis) -> None:
    keys = Keys("t")
    later = {**msgspec.to_builtins(FLEET), "invented_later": [1, 2], "seq": 8}
    await redis.set(keys.fleet, msgspec.json.encode(later))
    assert await RedisControlStore(redis, keys).load() == msgspec.structs.replace(FLEET, seq=8)


async def test_a_taken_command_is_there_until_it_is_answered(redis: Redis) -> None:
    keys = Keys("t")
    first = RedisControlStore(redis, keys)
    await first.fence.take()
    for number in ("1", "2"):
        await redis.rpush(keys.commands, msgspec.json.encode(Command(id=number, verb="wake", model_id="a")))
    taken = [await first.take_command(1.0), await first.take_command(1.0)]
    assert [command.id for command in taken if command] == ["1", "2"]
    assert await first.take_command(0.01) is None
    assert await first.untold_commands() == [], "it knows of both"
    await first.reply(CommandReply(id="1", ok=True, message="done"))
    successor = RedisControlStore(redis, keys)
    await successor.fence.take()
    assert [command.id for command in await successor.untold_commands()] == ["2"]
    with pytest.raises(LeaseLost):
        await first.reply(CommandReply(id="2", ok=True, message="done"))
    assert await redis.exists(keys.reply("2")) == 0
    await successor.reply(CommandReply(id="2", ok=True, message="done"))
    assert await redis.exists(keys.commands, keys.commands_taken) == 0
    assert [await redis.llen(keys.reply(number)) for number in ("1", "2")] == [1, 1]


async def test_what_is_no_command_is_thrown_away(redis: Redis) -> None:
    keys = Keys("t")
    store = RedisControlStore(redis, keys)
    for raw in (b"not json", b"\xff", b'{"verb": "wake"}'):
        await redis.rpush(keys.commands, raw)
        assert await store.take_command(1.0) is None
    await redis.rpush(keys.commands_taken, b"left by somebody")
    assert await store.untold_commands() == []
    assert await redis.exists(keys.commands, keys.commands_taken) == 0


async def test_one_report_that_nobody_can_read_hides_no_other(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    keys = Keys("t")
    store = RedisControlStore(redis, keys)
    good = DemandReport(worker="good", routes_version=1, sent_unix_s=2.0)
    await redis.set(keys.demand("good"), msgspec.json.encode(good))
    await redis.set(keys.demand("half"), b'{"worker": "ha')
    await redis.rpush(keys.demand("list"), "x")
    for _ in range(3):
        assert await store.all_demand() == [good]
        assert [store.announced(raw) for raw in (b"{", msgspec.json.encode(good))] == [None, good]
    complaints = [record.getMessage() for record in caplog.records]
    assert [key in text for text in complaints for key in ("t:demand:half",)].count(True) == 1, complaints
    assert len(complaints) == 2, "of each once"


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
    assert await store.all_demand() == [report]
    while await redis.exists(keys.demand("w")):
        await asyncio.sleep(0.01)
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
    assert await redis.get(keys.set_aside(keys.history)) == b'{"usage": 7}'


async def test_what_the_controller_counts_is_there_for_a_while(redis: Redis) -> None:
    keys = Keys("t")
    meter = TransitionMeter(model_id="a", transition="wake", tier="host", counts=(0, 1), sum_s=0.2)
    meters = ControlMeters(bounds_s=(0.1,), transitions=(meter,), quarantined={"a": 1})
    await RedisControlStore(redis, keys).meter(meters)
    raw = await redis.get(keys.meters)
    assert raw is not None
    assert msgspec.json.decode(raw, type=ControlMeters) == meters
    assert 0 < await redis.ttl(keys.meters) <= METERS_TTL_S


def a_model() -> ModelRecord:
    return ModelRecord(
        model_id="m",
        runtime="vllm",
        source="/m",
        aliases=(),
        min_replicas=0,
        max_replicas=1,
        ttl_s=1.0,
        priority=0,
        pinned=False,
        footprint={},
        card_hash="",
    )


async def test_between_whole_writes_what_has_not_changed_is_left_out(redis: Redis) -> None:
    keys = Keys("t")
    store = RedisControlStore(redis, keys)
    await store.fence.take()
    catalog = (a_model(),)

    async def write(version: int, at_s: float, models: tuple[ModelRecord, ...] = catalog) -> list[bool]:
        """Which of routes and catalog were written."""
        await redis.delete(keys.routes, keys.catalog)
        await store.write(msgspec.structs.replace(FLEET, updated_unix_s=at_s), RouteTable(version=version), models, ())
        return [bool(await redis.exists(key)) for key in (keys.routes, keys.catalog)]

    assert await write(1, 10.0) == [True, True]
    assert await write(1, 10.1) == [False, False]
    assert await write(2, 10.2) == [True, False]
    assert await write(2, 10.3, (a_model(),)) == [False, True]
    assert await write(2, 11.0) == [True, True], "once a second everything is"


async def test_after_a_write_that_failed_everything_is_written(redis: Redis) -> None:
    keys = Keys("t")
    store = RedisControlStore(redis, keys)
    await store.fence.take()
    fleet, routes = msgspec.structs.replace(FLEET, updated_unix_s=10.0), RouteTable(version=1)
    await store.write(fleet, routes, (), ())
    await redis.flushall()
    with pytest.raises(StateForgotten):
        await store.write(fleet, routes, (), ())
    await store.fence.restore()
    await store.write(fleet, routes, (), ())
    assert await redis.exists(keys.routes, keys.catalog, keys.fleet) == 3
