"""Engines that compute other tokens than they should never serve: they are started from the source, once."""

from __future__ import annotations

import pytest

from models.fleet.virtual import CANARY_FAILED
from packers.types import ReplicaId
from tests.models.control.scene import MIB, Scene, card

pytestmark = pytest.mark.anyio


def reserved_mib(scene: Scene) -> int:
    world = scene.controller.world
    return (100 * MIB - world.ledger.free_gpu(scene.node.gpus[0].id)) // MIB


async def test_a_start_that_fails_its_canary_is_started_cold_in_the_same_place_while_callers_wait() -> None:
    scene = Scene([card("a", 60)])
    scene.fleet.bad_layouts.add("a")
    scene.hold("a")
    await scene.run(1.2)
    assert scene.states() == {"a-1": "starting"}
    assert reserved_mib(scene) == 60
    assert scene.held, "whoever waits goes on waiting"
    assert scene.route("a").failure is None
    await scene.run(1)
    assert scene.states() == {"a-1": "ready"}
    assert scene.held == {}
    assert [order.cold for order in scene.fleet.orders] == [False, True]
    assert [call for call in scene.fleet.calls if not call.startswith("look")] == ["start a-1", "stop a-1", "start a-1"]
    (decision,) = scene.decided("quarantine")
    assert decision.replica_id == "a-1"
    assert CANARY_FAILED in decision.reason
    assert scene.model("a").quarantined == 1
    assert scene.model("a").costs_s.keys() == {"cold_start"}, "neither of the two says what a start costs"
    await scene.run(3)
    assert scene.store.meters.quarantined == {"a": 1}


async def test_the_next_start_trusts_the_layout_that_was_written_anew() -> None:
    scene = Scene([card("a", 60)])
    scene.fleet.bad_layouts.add("a")
    scene.hold("a")
    await scene.run(3)
    scene.order("stop", "a")
    await scene.run(1)
    scene.hold("a")
    await scene.run(2)
    assert [order.cold for order in scene.fleet.orders] == [False, True, False]


async def test_a_wake_that_fails_its_canary_is_started_cold_too() -> None:
    scene = Scene([card("a", 60)])
    scene.hold("a")
    await scene.run(2)
    scene.order("sleep", "a")
    await scene.run(1)
    scene.fleet.bad_layouts.add("a")
    scene.hold("a")
    await scene.run(0.5)
    assert scene.states() == {"a-1": "starting"}
    assert reserved_mib(scene) == 60
    await scene.run(1.5)
    assert scene.states() == {"a-1": "ready"}
    assert scene.held == {}
    assert scene.store.fleet is not None
    assert scene.store.fleet.replicas[0].cold
    (decision,) = scene.decided("quarantine")
    assert "after its wake" in decision.reason
    assert "wake" not in scene.model("a").costs_s


async def test_an_engine_that_is_reported_lost_while_its_wake_fails_is_quarantined_all_the_same() -> None:
    scene = Scene([card("a", 60)])
    scene.hold("a")
    await scene.run(2)
    scene.order("sleep", "a")
    await scene.run(1)
    scene.fleet.bad_layouts.add("a")
    scene.fleet.wake_s = 0.3
    scene.hold("a")
    await scene.run(0.1)
    engine = scene.fleet.engines[ReplicaId("a-1")]
    await scene.fleet.kill(ReplicaId("a-1"), CANARY_FAILED, "canary")
    scene.fleet.engines[ReplicaId("a-1")] = engine  # its process is gone; the wake has not noticed yet
    await scene.run(2.5)
    assert scene.states() == {"a-1": "ready"}
    assert scene.held == {}
    assert len(scene.decided("quarantine")) == 1


async def test_whoever_fails_even_from_the_source_fails_with_that_reason_and_is_tried_cold_again_later() -> None:
    scene = Scene([card("a", 60)])
    scene.fleet.bad_weights.add("a")
    scene.hold("a")
    await scene.run(2.5)
    failure = scene.route("a").failure
    assert failure is not None
    assert (failure.message, failure.fault, failure.permanent) == (CANARY_FAILED, "canary", False)
    assert scene.held == {}
    assert scene.states() == {}
    assert reserved_mib(scene) == 0
    assert [order.cold for order in scene.fleet.orders] == [False, True]
    scene.fleet.bad_weights.clear()
    await scene.run(1)
    scene.hold("a")
    await scene.run(2)
    assert scene.states() == {"a-2": "ready"}
    assert [order.cold for order in scene.fleet.orders] == [False, True, True], "no stored layout was trusted"


async def test_loads_on_one_gpu_stay_serialised_through_a_quarantine() -> None:
    scene = Scene([card("a", 40), card("b", 40)])
    scene.fleet.bad_layouts.add("a")
    scene.hold("a")
    scene.hold("b")
    loading = 0
    for _ in range(40):
        await scene.run(0.1)
        engines = [status for _, status in scene.fleet.engines.values() if status.state == "loading"]
        loading = max(loading, len(engines))
    assert loading == 1
    assert sorted(scene.states().values()) == ["ready", "ready"]


async def test_quarantines_are_counted_over_restarts_of_the_controller() -> None:
    scene = Scene([card("a", 60)])
    scene.fleet.bad_layouts.add("a")
    scene.hold("a")
    await scene.run(3)
    await scene.restart_controller(remembers=True)
    await scene.run(0.1)
    assert scene.model("a").quarantined == 1
    assert scene.store.fleet is not None
    assert scene.store.fleet.replicas[0].cold, "the engine says so itself"


async def test_a_new_controller_lets_a_loading_engine_keep_its_turn() -> None:
    scene = Scene([card("a", 40), card("b", 40)])
    scene.hold("a")
    await scene.run(0.5)
    await scene.restart_controller()
    scene.hold("b")
    await scene.run(0.3)
    loading = [status.order.model_id for _, status in scene.fleet.engines.values() if status.state == "loading"]
    assert loading == ["a"]
    await scene.run(3)
    assert sorted(scene.states().values()) == ["ready", "ready"]
