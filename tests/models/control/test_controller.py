"""Stories of the control loop, in virtual time."""

from __future__ import annotations

import pytest
from redis.exceptions import ConnectionError as RedisDown

from packers.types import ReplicaId
from tests.models.control.scene import Scene, card

pytestmark = pytest.mark.anyio


async def test_a_held_request_starts_its_model_once() -> None:
    scene = Scene([card("a", 60)])
    scene.hold("a")
    await scene.run(0.5)
    assert scene.states() == {"a-1": "starting"}
    await scene.run(1.0)
    assert scene.states() == {"a-1": "ready"}
    assert scene.held == {}
    assert scene.fleet.calls == ["start a-1"]
    assert scene.route("a").tier == "gpu"
    assert [d.action for d in scene.store.decisions] == ["start", "ready"]


async def test_memory_is_reserved_and_written_before_the_engine_starts() -> None:
    scene = Scene([card("a", 60)])
    scene.hold("a")
    scene.store.broken = RedisDown("gone")
    for _ in range(3):
        scene._report()
        scene.controller.step()
        with pytest.raises(RedisDown):
            await scene.controller.flush()
    assert scene.fleet.calls == [], "nothing starts that is not on record"
    scene.store.broken = None
    await scene.run(0.1)
    assert scene.fleet.calls == ["start a-1"]
    assert scene.store.fleet is not None
    assert [r.replica_id for r in scene.store.fleet.ledger] == ["a-1"]
    assert len(scene.decided("start")) == 1


async def test_the_idle_model_makes_room_for_the_asked_one_and_the_record_says_so() -> None:
    scene = Scene([card("a", 60), card("b", 60)])
    scene.hold("a")
    await scene.run(2)
    scene.hold("b")
    await scene.run(2)
    assert scene.states() == {"a-1": "asleep", "b-2": "ready"}
    (eviction,) = scene.decided("sleep")
    assert (eviction.model_id, eviction.evicted_for) == ("a", "b")
    assert scene.route("a").tier == "host"
    scene.hold("a")
    await scene.run(1)
    assert scene.states()["a-1"] == "ready", "woken, not started again"
    assert "start a-3" not in scene.fleet.calls


async def test_a_busy_replica_is_never_evicted() -> None:
    scene = Scene([card("a", 60), card("b", 60)])
    scene.hold("a")
    await scene.run(2)
    scene.busy = {"a-1": 1}
    scene.hold("b")
    await scene.run(3)
    assert scene.states() == {"a-1": "ready"}
    (hold,) = scene.decided("hold")
    assert hold.model_id == "b"
    scene.busy = {}
    await scene.run(2)
    assert scene.states()["b-2"] == "ready"


async def test_a_draining_replica_waits_for_gateways_that_route_by_an_older_table() -> None:
    scene = Scene([card("a", 60), card("b", 60)])
    scene.hold("a")
    await scene.run(2)
    scene.gateway_version = scene.store.routes.version
    scene.hold("b")
    await scene.run(1)
    assert scene.states() == {"a-1": "draining"}
    assert [r.state for r in scene.route("a").replicas] == ["draining"]
    scene.gateway_version = None
    await scene.run(2)
    assert scene.states() == {"a-1": "asleep", "b-2": "ready"}


async def test_a_dead_gateway_does_not_hold_up_a_drain() -> None:
    scene = Scene([card("a", 60), card("b", 60)])
    scene.hold("a")
    await scene.run(2)
    scene.busy = {"a-1": 1}
    await scene.run(0.1)
    scene.gateway_alive = False
    command = scene.order("stop", "a")
    await scene.run(4.5)
    reply = scene.reply(command)
    assert reply is not None
    assert reply.ok
    assert scene.states() == {}


async def test_a_request_stuck_in_flight_delays_a_drain_only_so_long() -> None:
    scene = Scene([card("a", 60)])
    scene.hold("a")
    await scene.run(2)
    scene.busy = {"a-1": 1}
    scene.order("stop", "a")
    await scene.run(4)
    assert scene.states() == {"a-1": "draining"}
    await scene.run(2)
    assert "a-1" not in scene.states()


async def test_a_failed_start_reaches_those_who_wait_and_is_retried_with_back_off() -> None:
    scene = Scene([card("a", 60), card("b", 30)])
    scene.fleet.fail_start["a"] = "the weights are not there"
    scene.hold("a")
    scene.hold("b")
    await scene.run(1.2)
    failure = scene.route("a").failure
    assert failure is not None
    assert failure.message == "the weights are not there"
    assert failure.code == "model_start_failed"
    assert list(scene.held) == ["b"]
    assert scene.states() == {"b-2": "starting"}, "loads on one GPU are serialised; a holds no memory"
    await scene.run(0.1)
    scene.hold("a")
    await scene.run(0.5)
    assert len(scene.decided("start")) == 2, "not before the back-off is over"
    await scene.run(2)
    again = scene.route("a").failure
    assert again is not None
    assert again.retry_at_unix_s - again.at_unix_s == pytest.approx(2.0)
    scene.fleet.fail_start.clear()
    await scene.run(2)
    scene.hold("a")
    await scene.run(1.5)
    assert scene.route("a").failure is None
    assert scene.route("a").tier == "gpu"


async def test_a_broken_source_is_told_before_anything_is_started() -> None:
    scene = Scene([card("a", 60)])
    scene.broken_sources["a"] = "folder a does not exist"
    scene.hold("a")
    await scene.run(0.2)
    failure = scene.route("a").failure
    assert failure is not None
    assert failure.message == "folder a does not exist"
    assert not any(call.startswith("start") for call in scene.fleet.calls)


async def test_a_model_that_never_fits_is_refused_once_with_figures() -> None:
    scene = Scene([card("huge", 300)])
    scene.hold("huge")
    await scene.run(1)
    failure = scene.route("huge").failure
    assert failure is not None
    assert failure.permanent
    assert "300" in failure.message
    assert "100" in failure.message
    assert len(scene.decided("refuse")) == 1


async def test_an_engine_that_dies_frees_its_memory_and_the_next_request_starts_a_new_one() -> None:
    scene = Scene([card("a", 60)])
    scene.hold("a")
    await scene.run(2)
    await scene.fleet.kill(ReplicaId("a-1"))
    await scene.run(0.1)
    assert scene.states() == {}
    (died,) = scene.decided("died")
    assert "signal 9" in died.reason
    scene.hold("a")
    await scene.run(2)
    assert scene.states() == {"a-2": "ready"}


async def test_a_new_controller_adopts_what_lives_and_starts_nothing() -> None:
    scene = Scene([card("a", 60), card("b", 30), card("c", 60)])
    scene.hold("a")
    await scene.run(2)
    scene.hold("b")
    await scene.run(2)
    scene.hold("c")
    await scene.run(2)
    before, version = scene.states(), scene.store.routes.version
    assert sorted(before.values()) == ["asleep", "ready", "ready"]
    scene.fleet.calls.clear()
    assert await scene.restart_controller() == 3
    await scene.run(1)
    assert scene.states() == before
    assert scene.store.routes.version > version
    assert all(call.startswith("adopt") for call in scene.fleet.calls)
    assert len(scene.decided("adopt")) == 3


async def test_a_new_controller_finishes_a_start_that_its_predecessor_ordered() -> None:
    scene = Scene([card("a", 60)])
    scene.hold("a")
    await scene.run(0.5)
    assert await scene.restart_controller() == 1
    await scene.run(2)
    assert scene.states() == {"a-1": "ready"}
    assert [call for call in scene.fleet.calls if call.startswith("start")] == ["start a-1"]


async def test_a_replica_that_died_unwatched_is_noted() -> None:
    scene = Scene([card("a", 60)])
    scene.hold("a")
    await scene.run(2)
    scene.fleet.engines.clear()
    assert await scene.restart_controller() == 0
    await scene.run(0.1)
    assert [d.reason for d in scene.decided("died")] == ["a-1 ended while no controller watched"]
    assert scene.states() == {}


async def test_an_engine_of_a_model_no_longer_in_the_catalog_is_stopped() -> None:
    scene = Scene([card("a", 60)])
    scene.hold("a")
    await scene.run(2)
    scene.cards = [card("b", 60)]
    assert await scene.restart_controller() == 0
    await scene.run(0.5)
    assert scene.fleet.engines == {}


async def test_without_demand_a_replica_goes_to_sleep_after_its_ttl_and_later_stops() -> None:
    scene = Scene([card("a", 60, ttl=2)])
    scene.hold("a")
    await scene.run(1.5)
    assert scene.states() == {"a-1": "ready"}
    await scene.run(3)
    assert scene.states() == {"a-1": "asleep"}
    await scene.run(25, step_s=0.1)
    assert scene.states() == {}


async def test_min_replicas_are_there_without_being_asked_for() -> None:
    scene = Scene([card("a", 30, min_replicas=1)])
    await scene.run(2)
    assert scene.states() == {"a-1": "ready"}
    command = scene.order("stop", "a")
    await scene.run(0.1)
    reply = scene.reply(command)
    assert reply is not None
    assert reply.code == "min_replicas"


async def test_stopping_a_sleeping_replica_does_not_disturb_the_one_in_its_place() -> None:
    scene = Scene([card("a", 60), card("b", 60)])
    scene.hold("a")
    await scene.run(2)
    scene.hold("b")
    await scene.run(2)
    assert scene.states() == {"a-1": "asleep", "b-2": "ready"}
    scene.order("stop", "a")
    await scene.run(0.5)
    assert scene.states() == {"b-2": "ready"}


async def test_two_that_go_to_sleep_at_once_do_not_count_on_the_same_host_memory() -> None:
    scene = Scene([card("a", 40), card("b", 40)], host_mib=60)
    for model in ("a", "b"):
        scene.hold(model)
        await scene.run(2)
    first, second = scene.order("sleep", "a"), scene.order("sleep", "b")
    await scene.run(1)
    replies = [scene.reply(first), scene.reply(second)]
    assert [reply.code for reply in replies if reply] == [None, "insufficient_host_memory"]
    assert scene.states() == {"a-1": "asleep", "b-2": "ready"}


async def test_surplus_replicas_of_a_model_in_use_age_and_go() -> None:
    scene = Scene([card("a", 30, max_replicas=3, ttl=2, target_in_flight=1)])
    scene.hold("a")
    await scene.run(2)
    scene.busy = {"a-1": 3}
    await scene.run(4)
    assert sorted(scene.states().values()) == ["ready", "ready", "ready"]
    scene.busy = {}
    for _ in range(6):
        scene.used["a"] = scene.clock()
        await scene.run(0.5)
    assert scene.states()["a-1"] == "ready"
    assert sorted(scene.states().values()) == ["asleep", "asleep", "ready"]
