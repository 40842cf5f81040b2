"""The pictures of GPUs that bills are made from: when one is drawn, and what it shows."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisDown

from models.clock import SinceBoot
from models.control.messages import CatalogChanged
from models.control.occupancy import micros
from models.control.takeover import take_over
from models.runtimes.protocol import Measured
from models.store.usage import GpuPicture
from packers.types import GpuId, NodeId, PoolId, ReplicaId
from tests.models.control.cluster import Cluster, node
from tests.models.control.pictures import ledger_of, replayed
from tests.models.control.scene import MIB, Scene, card
from tests.models.control.stored_scene import KEYS, KeptStore, StoredScene

pytestmark = pytest.mark.anyio


def story(scene: Scene, gpu: str = "n/gpu-0") -> list[str]:
    """Each picture of a GPU, short: what of it is whose, in MiB."""
    found = []
    for picture in scene.store.pictures:
        if picture.gpu == gpu:
            parts = [f"{one.replica} {one.phase} {one.bytes // MIB}" for one in picture.occupants]
            found.append(", ".join(parts) if picture.present else "gone")
    return found


async def test_the_life_of_a_replica_in_pictures() -> None:
    scene = Scene([card("a", 40, owned_by="acme")])
    scene.fleet.start_s, scene.fleet.sleep_s, scene.fleet.wake_s, scene.fleet.stop_s = 2.0, 1.0, 0.5, 0.2
    began_s = scene.clock()
    await scene.run(0.5)
    scene.hold("a")
    await scene.run(4)
    scene.order("sleep", "a")
    await scene.run(3)
    scene.hold("a")
    await scene.run(3)
    scene.order("stop", "a")
    await scene.run(3)
    assert story(scene) == [
        "",
        "a-1 starting 40",
        "a-1 serving 40",
        "a-1 stopping 40",
        "a-1 asleep 0",
        "a-1 starting 40",
        "a-1 serving 40",
        "a-1 stopping 40",
        "",
    ]
    first, starting, serving = scene.store.pictures[:3]
    assert first.at_us == micros(began_s)
    assert (first.node, first.pool, first.memory_bytes, first.simulated) == ("n", "owned", 100 * MIB, True)
    assert serving.at_us - starting.at_us == pytest.approx(2_000_000, abs=30_000)
    assert {one.owner for picture in scene.store.pictures for one in picture.occupants} == {"acme"}
    assert {one.model for picture in scene.store.pictures for one in picture.occupants} == {"a"}


async def test_a_picture_is_of_the_step_in_which_something_happened() -> None:
    scene = Scene([card("a", 40)])
    await scene.run(0.2)
    scene.hold("a")
    await scene.run(2)
    for picture in scene.store.pictures:
        since_us = [micros(one.at_unix_s) for one in scene.store.decisions if one.action in ("start", "ready")]
        assert picture.at_us in (1_000_000_000_000, *since_us)


async def test_requests_and_measured_bytes_make_no_picture() -> None:
    scene = Scene([card("a", 40)])
    scene.hold("a")
    await scene.run(2)
    drawn = len(scene.store.pictures)
    for count in range(20):
        scene.busy = {"a-1": count}
        await scene.look()
        await scene.run(0.3)
    assert len(scene.store.pictures) == drawn


async def test_while_nothing_happens_the_state_still_says_that_the_controller_is_there() -> None:
    """Bills are settled up to the time of the last state."""
    scene = Scene([card("a", 40)])
    await scene.run(5)
    drawn = len(scene.store.pictures)
    for _ in range(20):
        await scene.run(0.5, step_s=0.1)
        assert scene.store.fleet is not None
        assert scene.clock() - scene.store.fleet.updated_unix_s <= 1.2
    assert len(scene.store.pictures) == drawn


async def test_what_drains_serves_until_it_is_told_to_end() -> None:
    scene = Scene([card("a", 40)])
    scene.fleet.stop_s = 0.5
    scene.hold("a")
    await scene.run(2)
    scene.busy = {"a-1": 1}
    scene.order("stop", "a", wait=False)
    await scene.run(2)
    assert scene.states() == {"a-1": "draining"}
    assert story(scene)[-1] == "a-1 serving 40"
    scene.busy = {}
    await scene.run(0.1)
    assert story(scene)[-1] == "a-1 stopping 40"


async def test_routes_say_what_part_of_its_gpu_a_replica_has() -> None:
    scene = Scene([card("a", 25), card("b", 50)])
    scene.hold("a")
    scene.hold("b")
    await scene.run(3)
    (a,), (b,) = scene.route("a").replicas, scene.route("b").replicas
    assert (a.memory_bytes, a.gpu_share) == (25 * MIB, 0.25)
    assert (b.memory_bytes, b.gpu_share) == (50 * MIB, 0.5)


async def test_a_reservation_that_grows_makes_a_picture_and_another_route() -> None:
    scene = Scene([card("a", 40)], simulated=False)
    scene.hold("a")
    await scene.run(2)
    scene.fleet.memory["a"] = Measured(weights_bytes=60 * MIB, kv_cache_bytes=0, rss_bytes=0)
    scene.used["a"] = scene.clock()
    await scene.look()
    assert story(scene)[-2:] == ["a-1 serving 40", "a-1 serving 60"]
    (route,) = scene.route("a").replicas
    assert (route.memory_bytes, route.gpu_share) == (60 * MIB, 0.6)


async def test_an_owner_changes_with_the_card_and_stays_when_the_card_goes() -> None:
    scene = Scene([card("a", 40, owned_by="acme")])
    scene.hold("a")
    await scene.run(2)
    for cards in ([card("a", 40, owned_by="umbrella")], []):
        scene.cards = cards
        scene.busy = {"a-1": 1} if not cards else {}
        scene.controller.post(CatalogChanged(config=None))  # type: ignore[arg-type]
        await scene.run(0.2)
        (occupant,) = scene.store.pictures[-1].occupants
        assert occupant.owner == "umbrella"


async def test_gpus_that_are_lost_are_gone_and_come_back_empty() -> None:
    cluster = Cluster([card("a", 60), card("b", 60)], [node("n00", 100, 100)])
    await cluster.ready("a", "b")
    await cluster.fleet.lose_gpu(GpuId("n00/gpu-0"), "Xid 79")
    await cluster.run(0.2)
    assert story(cluster, "n00/gpu-0")[-1] == "gone"
    assert replayed(cluster.store.pictures).keys() == {"n00/gpu-1"}
    await cluster.fleet.gpu_back(GpuId("n00/gpu-0"))
    await cluster.run(0.05)
    assert story(cluster, "n00/gpu-0")[-1] in ("", "a-3 starting 60")
    assert replayed(cluster.store.pictures) == ledger_of(cluster.controller.world)


async def test_a_node_that_is_away_still_has_its_gpus_and_one_that_is_lost_has_none() -> None:
    cluster = Cluster([card("a", 60)], [node("n00", 100), node("n01", 100)])
    await cluster.ready("a")
    (gpu,) = cluster.where("a")
    name = NodeId(gpu.partition("/")[0])
    await cluster.fleet.node_away(name)
    await cluster.run(1)
    assert story(cluster, gpu)[-1] == "a-1 serving 60"
    await cluster.fleet.lose_node(name)
    await cluster.run(0.2)
    assert story(cluster, gpu)[-1] == "gone"


async def test_another_pool_makes_another_picture() -> None:
    cluster = Cluster([card("a", 60)], [node("n00", 100)])
    await cluster.run(0.1)
    await cluster.fleet.join_node(node("n00", 100, pool=PoolId("spot")))
    await cluster.run(0.1)
    assert [picture.pool for picture in cluster.store.pictures] == ["owned", "spot"]


async def test_a_new_controller_draws_all_and_what_it_does_not_find_is_gone() -> None:
    cluster = Cluster([card("a", 60)], [node("n00", 100, 100)])
    await cluster.ready("a")
    assert replayed(cluster.store.pictures).keys() == {"n00/gpu-0", "n00/gpu-1"}
    drawn = len(cluster.store.pictures)
    (gpu,) = cluster.where("a")
    cluster.fleet._nodes.join(node("n00", 100))  # while nobody watched it has lost one
    await cluster.restart_controller()
    await cluster.run(0.1)
    assert len(cluster.store.pictures) > drawn
    assert story(cluster, "n00/gpu-1")[-1] == "gone"
    assert replayed(cluster.store.pictures).keys() == {"n00/gpu-0"}
    assert gpu == "n00/gpu-0"


async def test_what_happened_while_the_store_was_away_goes_out_later_with_its_own_times() -> None:
    scene = Scene([card("a", 40)])
    scene.hold("a")
    await scene.run(2)
    drawn, scene.store.broken = len(scene.store.pictures), RedisDown("away")
    died_s = scene.clock()
    await scene.fleet.kill(ReplicaId("a-1"))
    for _ in range(30):
        with pytest.raises(RedisDown):
            await scene.run(0.1)
        await scene.clock.advance(0.1)
    assert len(scene.store.pictures) == drawn
    scene.store.broken = None
    await scene.run(1)
    first = scene.store.pictures[drawn]
    assert first.occupants == ()
    assert first.at_us == pytest.approx(micros(died_s), abs=200_000), "when it died, not when it was written"


async def test_a_service_that_is_stopped_has_no_gpus() -> None:
    scene = Scene([card("a", 40)])
    scene.hold("a")
    await scene.run(2)
    await scene.clock.advance(0.5)
    await scene.controller.leave()
    last = scene.store.pictures[-1]
    assert (last.present, last.occupants, last.at_us) == (False, (), micros(scene.clock()))
    assert replayed(scene.store.pictures) == {}


# -- in Redis ----------------------------------------------------------------------------------------------------------


async def stored(redis: Redis) -> list[GpuPicture]:
    found: Any = await redis.xrange(KEYS.gpu_timeline)
    return [msgspec.json.decode(fields[b"g"], type=GpuPicture) for _, fields in found]


async def test_the_timeline_in_redis_is_what_was_drawn_and_goes_on_with_the_next_controller(redis: Redis) -> None:
    scene = StoredScene(redis, [card("a", 40)])
    await scene.begin()
    scene.hold("a")
    await scene.run(2)
    await scene.begin()
    await scene.run(0.2)
    assert await stored(redis) == scene.store.pictures
    assert story(scene) == [
        "a-1 starting 40",
        "a-1 serving 40",
        "a-1 serving 40",
    ], "its successor draws all anew"


async def test_a_picture_whose_answer_was_lost_is_there_once(redis: Redis) -> None:
    scene = StoredScene(redis, [card("a", 40)])
    await scene.begin()
    scene.hold("a")
    await scene.run(1)
    assert isinstance(scene.store, KeptStore)
    real, before = scene.store.real, scene.store.real._pictures
    drawn = scene.store.pictures[-1]
    after = msgspec.structs.replace(drawn, at_us=drawn.at_us + 5)
    assert scene.store.fleet is not None
    await real.write(scene.store.fleet, scene.store.routes, (), (), (drawn,))
    real._pictures = before  # the answer never came
    await real.write(scene.store.fleet, scene.store.routes, (), (), (drawn, after))
    assert (await stored(redis))[-2:] == [drawn, after]
    assert len(await stored(redis)) == before + 2


async def test_a_store_that_was_emptied_is_told_all(redis: Redis) -> None:
    scene = StoredScene(redis, [card("a", 40), card("b", 40)], gpus_mib=(50, 50))
    await scene.begin()
    scene.hold("a")
    await scene.run(2)
    await redis.flushall()
    await scene.run(1.5)
    pictures = await stored(redis)
    assert replayed(pictures) == ledger_of(scene.controller.world)
    assert len(pictures) == 2


async def test_what_others_keep_under_the_timeline_is_moved_aside(redis: Redis) -> None:
    await redis.set(KEYS.gpu_timeline, "not ours")
    scene = StoredScene(redis, [card("a", 40)])
    await scene.begin()
    await scene.run(0.1)
    assert len(await stored(redis)) == 1
    assert await redis.get(KEYS.set_aside(KEYS.gpu_timeline)) == b"not ours"


@pytest.mark.parametrize("boot", ["one boot", "another boot"])
async def test_a_machine_that_was_off_had_no_gpus(redis: Redis, boot: str) -> None:
    """One whose controller was away had: what ran there went on."""
    scene = StoredScene(redis, [card("a", 40)])
    await scene.begin()
    scene.hold("a")
    await scene.run(2)
    assert scene.store.fleet is not None
    wrote_s = scene.store.fleet.updated_unix_s
    for replica in list(scene.fleet.engines):
        await scene.fleet.kill(ReplicaId(replica))
    await scene.clock.advance(3600)
    scene.end()
    scene.controller = scene._controller()
    assert isinstance(scene.store, KeptStore)
    await scene.store.real.fence.take()
    await take_over(scene.controller, scene.store.real, scene.fleet, scene.clock(), SinceBoot(boot, 5.0))
    drawn = len(scene.store.pictures)
    await scene.run(0.1)
    after = [(picture.at_us, picture.present) for picture in scene.store.pictures[drawn:]]
    again = (micros(wrote_s + 3600), True)
    assert after[0][1] is (boot == "one boot")
    if boot != "one boot":
        assert after[0] == (micros(wrote_s), False)
    assert after[-1][0] == pytest.approx(again[0], abs=2_000_000)
    assert after[-1][1]


# -- whatever happens --------------------------------------------------------------------------------------------------

happening = st.one_of(
    st.tuples(st.just("hold"), st.sampled_from("abc")),
    st.tuples(st.just("busy"), st.integers(0, 5)),
    st.tuples(st.just("kill"), st.integers(0, 5)),
    st.tuples(st.sampled_from(["sleep", "stop"]), st.sampled_from("abc")),
    st.tuples(st.just("wait"), st.integers(1, 20)),
    st.tuples(st.just("restart"), st.just(0)),
    st.tuples(st.sampled_from(["lose", "back"]), st.integers(0, 1)),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(happening, max_size=20))
def test_replayed_pictures_are_the_ledger_at_every_step(happenings: list[tuple[str, object]]) -> None:
    asyncio.run(_play(happenings))


async def _play(happenings: list[tuple[str, object]]) -> None:
    scene = Cluster([card(name, size) for name, size in zip("abc", (60, 60, 30), strict=True)], [node("n00", 100, 100)])
    for what, which in happenings:
        await _happens(scene, what, which)
        for _ in range(4):
            await scene.run(0.01)
            shown, reserved = replayed(scene.store.pictures), ledger_of(scene.controller.world)
            assert shown == reserved, f"after {what}"


async def _happens(scene: Cluster, what: str, which: object) -> None:
    alive = sorted(scene.fleet.engines)
    match what:
        case "hold":
            scene.hold(str(which))
        case "busy" if alive and isinstance(which, int):
            scene.busy = {str(alive[which % len(alive)]): which % 2}
        case "kill" if alive and isinstance(which, int):
            await scene.fleet.kill(alive[which % len(alive)])
        case "sleep" | "stop":
            scene.order(what, str(which))
        case "wait" if isinstance(which, int):
            await scene.run(which / 10)
        case "restart":
            await scene.restart_controller()
        case "lose" | "back":
            gpu = GpuId(f"n00/gpu-{which}")
            lost = gpu in scene.fleet._nodes.of_gpu(gpu).lost_gpus
            if what == "lose" and not lost:
                await scene.fleet.lose_gpu(gpu, "Xid 79")
            elif what == "back" and lost:
                await scene.fleet.gpu_back(gpu)
