"""What kind of fault an engine has decides what becomes of its model, and what callers are told."""

from __future__ import annotations

import pytest

from models.control.failures import CRASHES_AT_ONCE, CRASHES_MAX
from models.control.messages import CatalogChanged, Lost
from models.runtimes.protocol import Fault
from packers.types import ReplicaId
from tests.models.control.scene import Scene, card

pytestmark = pytest.mark.anyio


async def failing(fault: Fault, message: str = "no") -> Scene:
    scene = Scene([card("a", 60)])
    scene.fleet.fail_start["a"], scene.fleet.faults["a"] = message, fault
    scene.hold("a")
    await scene.run(1.5)
    return scene


@pytest.mark.parametrize("fault", ["weights", "code"])
async def test_damaged_weights_and_broken_code_wait_for_other_files(fault: Fault) -> None:
    scene = await failing(fault, "model.safetensors is damaged")
    failure = scene.model("a").failure
    assert failure is not None
    assert (failure.message, failure.fault, failure.permanent) == ("model.safetensors is damaged", fault, True)
    scene.hold("a")
    await scene.run(90, step_s=0.25)
    assert len(scene.fleet.orders) == 1, "trying again changes nothing"
    await scene.onlooker.look()
    scene.fleet.fail_start.clear()
    scene.contents["a"] = "repaired"
    await scene.look()
    assert scene.route("a").failure is None
    scene.hold("a")
    await scene.run(2)
    assert scene.states() == {"a-2": "ready"}


@pytest.mark.parametrize("fault", ["memory", "hang", "other"])
async def test_what_may_pass_is_tried_again(fault: Fault) -> None:
    scene = await failing(fault)
    failure = scene.route("a").failure
    assert failure is not None
    assert (failure.fault, failure.permanent) == (fault, False)
    assert failure.retry_at_unix_s > failure.at_unix_s
    await scene.run(1)
    scene.fleet.fail_start.clear()
    scene.hold("a")
    await scene.run(2)
    assert scene.states() == {"a-2": "ready"}


async def test_an_operator_may_try_again_at_once() -> None:
    scene = await failing("code", "it raised in load")
    scene.fleet.fail_start.clear()
    scene.order("wake", "a")
    await scene.run(2)
    assert scene.states() == {"a-2": "ready"}
    assert scene.model("a").failure is None


async def test_a_changed_card_may_try_again_at_once() -> None:
    scene = await failing("weights")
    scene.fleet.fail_start.clear()
    scene.cards = [card("a", 60, engine_args={"max_model_len": 5})]
    scene.controller.post(CatalogChanged(config=None))  # type: ignore[arg-type]
    scene.hold("a")
    await scene.run(2)
    assert scene.states() == {"a-2": "ready"}


async def test_a_source_that_is_missing_is_found_when_it_comes() -> None:
    scene = Scene([card("a", 60)])
    scene.broken_sources["a"] = "the folder does not exist"
    scene.hold("a")
    await scene.run(0.2)
    failure = scene.route("a").failure
    assert failure is not None
    assert (failure.fault, failure.permanent) == ("weights", False)
    scene.broken_sources.clear()
    await scene.run(1)
    scene.hold("a")
    await scene.run(2)
    assert scene.route("a").tier == "gpu"


async def crash(scene: Scene, reason: str = "segmentation fault", fault: Fault = "other") -> None:
    scene.hold("a")
    await scene.run(1.5)
    (ready,) = [replica for replica, state in scene.states().items() if state == "ready"]
    await scene.fleet.kill(ReplicaId(ready), reason, fault)
    await scene.run(0.1)


async def test_a_crash_loop_is_slowed_down_and_ends_with_the_reason() -> None:
    scene = Scene([card("a", 60)])
    for number in range(1, CRASHES_MAX + 1):
        await crash(scene)
        failure = scene.route("a").failure
        assert (failure is None) == (number <= CRASHES_AT_ONCE)
        if failure is not None and not failure.permanent:
            await scene.run(failure.retry_at_unix_s - scene.clock(), step_s=0.1)
    assert failure is not None
    assert (failure.code, failure.permanent) == ("model_keeps_crashing", True)
    assert "segmentation fault" in failure.message
    started = len(scene.fleet.orders)
    scene.hold("a")
    await scene.run(120, step_s=0.5)
    assert len(scene.fleet.orders) == started == CRASHES_MAX
    await scene.run(3, step_s=0.5)
    assert scene.store.meters.lost == {"a": CRASHES_MAX}
    scene.order("wake", "a")
    await scene.run(2)
    assert list(scene.states().values()) == ["ready"], "an operator may always try"


async def test_a_replica_kept_by_min_replicas_does_not_crash_for_ever() -> None:
    scene = Scene([card("a", 60, min_replicas=1)])
    for _ in range(400):
        await scene.run(0.5, step_s=0.1)
        for replica, state in scene.states().items():
            if state == "ready":
                await scene.fleet.kill(ReplicaId(replica))
    assert len(scene.fleet.orders) == CRASHES_MAX
    assert scene.states() == {}


async def test_an_engine_that_hangs_is_named_so() -> None:
    scene = Scene([card("a", 60)])
    for _ in range(CRASHES_AT_ONCE + 1):
        await crash(scene, "the engine did not answer for 15 s", "hang")
    failure = scene.model("a").failure
    assert failure is not None
    assert failure.fault == "hang"
    assert scene.decided("died")[-1].details["fault"] == "hang"


async def test_the_reason_of_a_process_that_died_while_it_started_is_the_one_that_is_told() -> None:
    scene = Scene([card("a", 60)])
    scene.hold("a")
    await scene.run(0.5)
    await scene.fleet.kill(ReplicaId("a-1"), "its process was killed by signal 11")
    await scene.run(1)
    failure = scene.route("a").failure
    assert failure is not None
    assert failure.message == "its process was killed by signal 11"
    assert scene.states() == {}


async def test_a_lost_node_takes_its_starting_replicas_with_it() -> None:
    scene = Scene([card("a", 60)])
    scene.hold("a")
    await scene.run(0.5)
    scene.controller.post(Lost(ReplicaId("a-1"), "n has not answered for 30 s", with_node=True))
    await scene.run(0.05)
    assert "a-1" not in scene.states()
