"""There is one controller. Whoever is not it writes nothing and orders nothing, whatever Redis has forgotten."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis

from models.control.fence import LeaseLost
from models.control.store import RedisControlStore
from models.fleet.protocol import Superseded
from models.store.client import connect_async
from models.store.embedded import EmbeddedRedis
from models.store.records import FleetRecord, RouteTable
from packers.types import ReplicaId
from tests.models.control.scene import card
from tests.models.control.stored_scene import KEYS, StoredScene

pytestmark = pytest.mark.anyio


async def fleet_in(redis: Redis) -> FleetRecord:
    raw = await redis.get(KEYS.fleet)
    assert raw is not None
    return msgspec.json.decode(raw, type=FleetRecord)


async def serving(redis: Redis, *cards: str) -> StoredScene:
    scene = StoredScene(redis, [card(name, 40) for name in cards or ("a", "b")])
    await scene.begin()
    scene.hold(scene.cards[0].model_id)
    await scene.run(1.5)
    assert list(scene.states().values()) == ["ready"]
    return scene


async def test_each_controller_takes_the_next_number_and_adopts_what_lives(redis: Redis) -> None:
    scene = await serving(redis)
    assert scene.epoch == 1
    assert await scene.begin() == 1
    await scene.run(0.5)
    assert (scene.epoch, (await fleet_in(redis)).epoch) == (2, 2)
    assert scene.states() == {"a-1": "ready"}
    assert [call for call in scene.fleet.calls if call.startswith("start")] == ["start a-1"]


async def test_one_that_was_suspended_comes_back_to_find_another_and_does_nothing_more(redis: Redis) -> None:
    old = await serving(redis)
    old.hold("b")
    old._report()
    old.controller.step()  # it has decided to start b, and is suspended before it writes that down
    new = old.beside()
    assert await new.begin() == 1
    await new.run(30, step_s=0.1)
    before, calls = await redis.dump(KEYS.fleet), list(new.fleet.calls)
    await old.run(1)
    assert isinstance(old.deposed, LeaseLost)
    assert await redis.dump(KEYS.fleet) == before
    assert old.fleet.calls == calls
    assert (await fleet_in(redis)).epoch == 2


async def test_an_order_that_was_under_way_when_another_took_over_is_not_obeyed(redis: Redis) -> None:
    """What it had written down already, and was about to have the fleet do."""
    old = await serving(redis)
    old.hold("b")
    old._report()
    old.controller.step()
    new = old.beside()
    begun = asyncio.create_task(old.controller.flush())
    while not old.controller._tasks:  # the start is on record, and on its way to the node
        await asyncio.sleep(0)
    await new.begin()
    await begun
    await old.run(1.5)
    assert isinstance(old.deposed, LeaseLost | Superseded)
    await new.run(3)
    alive = {replica.split("-")[0] for replica in new.fleet.engines}
    assert len(new.fleet.engines) == len(alive), "no model runs twice"


@pytest.mark.parametrize("what", ["emptied", "lease", "restored"])
async def test_the_store_forgets_and_the_old_controller_is_still_the_old_one(redis: Redis, what: str) -> None:
    old = await serving(redis)
    new = old.beside()
    await new.begin()
    await new.run(0.2)
    if what == "emptied":
        await redis.flushall()
    elif what == "lease":
        await redis.delete(KEYS.controller_lease)
    else:
        await redis.set(KEYS.controller_epoch, 1)  # as in a copy of yesterday
        await new.run(1.5)  # until it has written again, only the nodes know
    before = {key: await redis.dump(key) for key in await redis.keys("*")}
    await old.run(1.2)
    assert isinstance(old.deposed, Superseded | LeaseLost)
    after = {key: await redis.dump(key) for key in await redis.keys("*")}
    assert after.items() <= before.items(), "the old one wrote nothing, whatever has expired meanwhile"
    await new.run(1.5)
    assert new.deposed is None
    assert (await fleet_in(redis)).epoch == 2


async def test_after_a_loss_of_all_data_everything_is_written_anew_and_counting_goes_on(redis: Redis) -> None:
    scene = await serving(redis)
    version, calls = scene.store.routes.version, list(scene.fleet.calls)
    await redis.flushall()
    await redis.script_flush()  # another server does not know the scripts, either
    await scene.run(4)
    fleet, raw = await fleet_in(redis), await redis.get(KEYS.routes)
    assert raw is not None
    assert [replica.state for replica in fleet.replicas] == ["ready"]
    assert fleet.epoch == 1
    assert msgspec.json.decode(raw, type=RouteTable).version >= version
    assert await redis.exists(KEYS.catalog, KEYS.history, KEYS.meters, KEYS.controller_lease) == 4
    assert scene.fleet.calls == calls, "nothing was started, slept or stopped for it"


async def test_a_controller_that_starts_on_an_empty_store_is_later_than_any_that_nodes_obey(redis: Redis) -> None:
    scene = await serving(redis)
    for _ in range(4):
        await scene.begin()
    await scene.run(0.2)
    version = scene.store.routes.version
    assert scene.epoch == 5
    await redis.flushall()
    assert await scene.begin() == 1
    assert scene.epoch == 6
    await scene.run(4)
    assert scene.states() == {"a-1": "ready"}
    assert scene.store.routes.version > version, "gateways told which table they have"
    scene.hold("b")
    await scene.run(2)
    assert scene.deposed is None
    assert sorted(scene.states().values()) == ["ready", "ready"]


async def test_a_node_that_was_away_when_the_new_one_came_obeys_the_first_that_it_hears(redis: Redis) -> None:
    old = await serving(redis)
    await old.fleet.node_away(old.node.id)
    new = old.beside()
    await new.begin()
    await new.fleet.node_back(new.node.id)
    new.order("stop", "a")
    await new.run(1)
    assert new.fleet.engines == {}
    with pytest.raises(Superseded):
        await old.fleet.start(old.node.id, old.fleet.orders[0])


async def test_another_server_comes_in_the_place_of_the_one_that_died() -> None:
    with EmbeddedRedis() as server:
        redis = connect_async(server.url)
        scene = await serving(redis)
        await asyncio.to_thread(server.kill)
        scene.hold("b")
        await scene.run(2, step_s=0.2)
        assert scene.states() == {"a-1": "ready"}
        assert "b" in scene.held
        shutil.rmtree(server.home.redis_dir)
        await asyncio.to_thread(server.start)
        await scene.run(6)
        assert [replica.state for replica in (await fleet_in(redis)).replicas] == ["ready", "ready"]
        assert scene.held == {}
        await redis.aclose()


async def test_a_silent_server_stops_no_engine_and_loses_no_caller() -> None:
    """Stopped, not dead: connections stand, and nothing answers."""
    with EmbeddedRedis() as server:
        redis = connect_async(server.url)
        scene = await serving(redis)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        try:
            scene.hold("b")
            await asyncio.wait_for(scene.run(0.02), 10)
            await scene.fleet.kill(ReplicaId("a-1"))
            await asyncio.wait_for(scene.run(0.01), 5)
            assert "a-1" not in scene.controller.world.replicas, "what dies is seen all the same"
            assert scene.fleet.calls == ["start a-1"], "nothing begins that is not on record"
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await scene.run(6)
        assert scene.held == {}
        await redis.aclose()


async def test_a_process_that_stood_still_while_another_took_over_ends_by_itself(
    redis: Redis, embedded_url: str
) -> None:
    """The same with a real process: SIGSTOP, a successor, SIGCONT."""
    command = [sys.executable, "-m", "tests.models.control.lone_controller", embedded_url, KEYS.prefix]
    process = subprocess.Popen(  # noqa: ASYNC220
        command, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "in office as 1\n"
        while await redis.get(KEYS.fleet) is None:
            await asyncio.sleep(0.02)
        os.kill(process.pid, signal.SIGSTOP)
        new = RedisControlStore(redis, KEYS)
        await new.fence.take()
        await new.write(FleetRecord(seq=1, updated_unix_s=5.0, controller_pid=1), RouteTable(version=9), (), ())
        before = await redis.dump(KEYS.fleet)
        os.kill(process.pid, signal.SIGCONT)
        said, _ = await asyncio.to_thread(process.communicate, None, 20)
        assert said == "controller 2 is in office; this one was number 1\n"
        assert process.returncode == 3
        assert await redis.dump(KEYS.fleet) == before
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
