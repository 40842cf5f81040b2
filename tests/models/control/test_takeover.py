"""Before it decides anything: whose the store is, and what the last controller left."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis

from models.clock import SinceBoot
from models.control.store import RedisControlStore
from models.control.takeover import StoreAway, move_into_store, take_over
from models.store.client import connect_async
from models.store.embedded import EmbeddedRedis
from models.store.inspection import KeysTaken
from models.store.keys import Keys
from models.store.records import ClusterRecord, DemandReport, FleetRecord
from packers.types import ModelId
from tests.models.control.scene import card
from tests.models.control.stored_scene import KEYS, StoredScene

pytestmark = pytest.mark.anyio


async def test_two_controllers_on_one_redis_without_names_of_their_own(redis: Redis, tmp_path: Path) -> None:
    """The second does not start, and says why; the first goes on."""
    scene = StoredScene(redis, [card("a", 40)])
    await move_into_store(redis, KEYS, tmp_path / "one", 1.0)
    await scene.begin()
    await scene.run(1.1)
    with pytest.raises(KeysTaken, match=r"belong to another cluster.*ROUNDHOUSE_REDIS_PREFIX"):
        await move_into_store(redis, KEYS, tmp_path / "other", 1.0)
    await scene.run(1.1)
    assert scene.deposed is None
    elsewhere = Keys("elsewhere")
    await move_into_store(redis, elsewhere, tmp_path / "other", 1.0)
    other = RedisControlStore(redis, elsewhere)
    await other.fence.take()
    await move_into_store(redis, KEYS, tmp_path / "one", 2.0)  # the first cluster's next controller
    raw = await redis.get(KEYS.cluster)
    assert raw is not None
    assert msgspec.json.decode(raw, type=ClusterRecord).cluster_id == (tmp_path / "one").read_text()


async def test_a_store_that_holds_other_things_is_left_alone(redis: Redis, tmp_path: Path) -> None:
    await redis.hset(KEYS.routes, "somebody", "else's")
    with pytest.raises(KeysTaken, match="t:routes holds a hash where Roundhouse keeps a string"):
        await move_into_store(redis, KEYS, tmp_path / "id", 1.0)
    assert await redis.keys("*") == [b"t:routes"]


async def test_a_server_that_is_being_started_is_waited_for(tmp_path: Path) -> None:
    with EmbeddedRedis() as server:
        redis = connect_async(server.url)
        await asyncio.to_thread(server.kill)
        moving = asyncio.create_task(move_into_store(redis, KEYS, tmp_path / "id", 1.0, retry_s=0.05))
        await asyncio.sleep(0.2)
        assert not moving.done()
        await asyncio.to_thread(server.start)
        await asyncio.wait_for(moving, 10)
        await redis.aclose()


async def test_a_server_that_does_not_come_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    redis = connect_async(f"unix://{tmp_path}/none.sock")
    with pytest.raises(StoreAway, match="ROUNDHOUSE_REDIS_URL"):
        await move_into_store(redis, KEYS, tmp_path / "id", 1.0, patience_s=0.3, retry_s=0.05)
    await redis.aclose()


async def served(redis: Redis, **more: object) -> StoredScene:
    scene = StoredScene(redis, [card("a", 40, ttl=30, **more)])
    await scene.begin()
    scene.hold("a")
    await scene.run(2)
    assert scene.states() == {"a-1": "ready"}
    return scene


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
async def test_the_clock_is_set_by_an_hour_between_two_controllers_and_nothing_is_put_down(
    redis: Redis, jump_s: float
) -> None:
    scene = await served(redis)
    await scene.run(10, step_s=0.1)
    machine = SinceBoot("one boot", scene.clock() + 0.5)
    await scene.clock.advance(0.5)
    fleet = await RedisControlStore(redis, KEYS).load()
    assert fleet is not None
    shifted = msgspec.structs.replace(  # as an earlier controller, whose clock was wrong by so much, has written it
        fleet,
        updated_unix_s=fleet.updated_unix_s - jump_s,
        replicas=tuple(
            msgspec.structs.replace(one, last_used_unix_s=one.last_used_unix_s - jump_s) for one in fleet.replicas
        ),
    )
    await redis.set(KEYS.fleet, msgspec.json.encode(shifted))
    scene.end()
    scene.controller = scene._controller()
    store = RedisControlStore(redis, KEYS)
    await store.fence.take()
    assert await take_over(scene.controller, store, scene.fleet.beside(), scene.clock(), machine) == 1
    (tracked,) = scene.controller.world.replicas.values()
    assert scene.clock() - tracked.last_used_s == pytest.approx(10.5, abs=1.0), "idle for as long as it was"


async def test_what_gateways_said_and_what_models_cost_is_there_again(redis: Redis) -> None:
    scene = await served(redis)
    await scene.run(31, step_s=0.1)
    report = DemandReport(worker="w", routes_version=9000, sent_unix_s=scene.clock(), replicas={"a-1": 1}, number=1)
    await redis.set(KEYS.demand("w"), msgspec.json.encode(report))
    await scene.begin()
    scene.gateway_alive = False
    await scene.run(0.1)
    world = scene.controller.world
    assert world.history.costs.median_s(ModelId("a"), "start", "disk") == pytest.approx(1.0, abs=0.05)
    assert world.replicas[next(iter(world.replicas))].in_flight == 1
    assert scene.store.routes.version > 9000, "counting goes on from the newest table that is out there"


async def test_with_engines_and_no_memory_of_them_it_waits_to_hear_of_their_callers(redis: Redis) -> None:
    """Redis was emptied while no controller ran: what looks idle may have a stream on it."""
    scene = await served(redis)
    await redis.flushall()
    scene.gateway_alive = False
    before = scene.store.routes.version
    await scene.begin()
    await scene.run(1)
    assert scene.store.routes.version > before, "gateways take it at once, although nobody knew what they have"
    order = scene.order("stop", "a")
    await scene.run(0.3)
    assert scene.states().get("a-1") != "dead"
    assert "stop a-1" not in scene.fleet.calls
    scene.busy, scene.gateway_alive = {"a-1": 1}, True
    await scene.run(2)
    assert "stop a-1" not in scene.fleet.calls, "a request runs"
    scene.busy = {}
    await scene.run(1)
    reply = scene.reply(order)
    assert reply is not None
    assert reply.ok


async def test_a_state_that_nobody_can_read_costs_the_drained_gpus_and_no_engine(redis: Redis) -> None:
    scene = await served(redis)
    await redis.set(KEYS.fleet, b"\x00half")
    assert await scene.begin() == 1
    await scene.run(4)
    raw = await redis.get(KEYS.fleet)
    assert raw is not None
    fleet = msgspec.json.decode(raw, type=FleetRecord)
    assert [one.state for one in fleet.replicas] == ["ready"]
    assert "set-aside" in fleet.problems[0]
    assert [call for call in scene.fleet.calls if call.startswith("start")] == ["start a-1"]
