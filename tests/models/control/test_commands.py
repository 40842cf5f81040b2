"""Operators' commands: done, or refused with the cure."""

from __future__ import annotations

import pytest

from models.control.messages import CatalogChanged, CatalogRejected
from models.store.records import CommandReply
from packers.types import ModelId, ReplicaState
from tests.models.control.scene import MIB, Scene, card

pytestmark = pytest.mark.anyio


async def _done(scene: Scene, verb: str, model: str, seconds: float = 3, wait: bool = True) -> CommandReply:
    command = scene.order(verb, model, wait)
    await scene.run(seconds)
    reply = scene.reply(command)
    assert reply is not None
    assert len([r for r in scene.store.replies if r.id == command]) == 1
    return reply


async def test_wake_sleep_wake_stop() -> None:
    scene = Scene([card("a", 60, aliases=("first",))])
    assert (await _done(scene, "wake", "first")).message == "a is ready"
    assert scene.states() == {"a-1": "ready"}
    assert (await _done(scene, "sleep", "a")).message == "a is asleep"
    assert scene.states() == {"a-1": "asleep"}
    assert (await _done(scene, "wake", "a")).ok
    assert (await _done(scene, "stop", "a")).message == "a is stopped"
    assert scene.states() == {}
    assert (await _done(scene, "stop", "a")).message == "a had nothing to stop"


async def test_waking_what_is_awake_does_not_keep_it_from_making_room() -> None:
    scene = Scene([card("a", 60), card("b", 60)])
    for _ in range(2):
        assert (await _done(scene, "wake", "a")).message == "a is ready"
    scene.hold("b")
    await scene.run(2)
    assert scene.states() == {"a-1": "asleep", "b-2": "ready"}


async def test_without_waiting_the_order_is_only_accepted() -> None:
    scene = Scene([card("a", 60)])
    command = scene.order("wake", "a", wait=False)
    await scene.run(0.02)
    reply = scene.reply(command)
    assert reply is not None
    assert reply.message == "wake of a accepted"
    assert scene.states() == {"a-1": "starting"}


async def test_a_dry_run_says_what_would_be_done_and_does_nothing() -> None:
    scene = Scene([card("a", 60, aliases=("first",)), card("b", 60, min_replicas=1)], gpus_mib=(100, 100))

    async def told(verb: str, model: str) -> str:
        command = scene.order(verb, model, wait=False, dry_run=True)
        await scene.run(1)
        reply = scene.reply(command)
        assert reply is not None
        return f"{reply.message} {' '.join(reply.actions)}".strip()

    assert await told("wake", "first") == "a would be brought onto a GPU"
    assert await told("stop", "a") == "a has nothing that could be stopped"
    await _done(scene, "wake", "a")
    before = scene.states()
    (name,) = (name for name in before if name.startswith("a-"))
    assert await told("wake", "a") == "a is ready already"
    assert await told("sleep", "a") == f"1 replica of a would be put to sleep {name}"
    assert await told("stop", "first") == f"1 replica of a would be stopped {name}"
    assert "min_replicas 1" in await told("stop", "b"), "refused as the order would be"
    assert scene.states() == before


async def test_unknown_models_and_verbs_are_refused() -> None:
    scene = Scene([card("a", 60)])
    assert (await _done(scene, "wake", "z", 0.1)).code == "model_not_found"
    assert (await _done(scene, "dance", "a", 0.1)).code == "unknown_command"


async def test_a_starting_model_cannot_be_put_to_sleep() -> None:
    scene = Scene([card("a", 60)])
    scene.hold("a")
    await scene.run(0.2)
    assert (await _done(scene, "sleep", "a", 0.1)).code == "busy"


async def test_sleep_is_refused_when_the_card_or_the_host_forbids_it() -> None:
    scene = Scene([card("a", 60, can_sleep=False)])
    scene.hold("a")
    await scene.run(2)
    assert (await _done(scene, "sleep", "a", 0.1)).code == "cannot_sleep"
    tight = Scene([card("a", 60)], host_mib=10)
    tight.hold("a")
    await tight.run(2)
    reply = await _done(tight, "sleep", "a", 0.1)
    assert reply.code == "insufficient_host_memory"


async def test_a_wake_that_fails_says_why() -> None:
    scene = Scene([card("a", 60), card("huge", 500)])
    scene.fleet.fail_start["a"] = "the weights are not there"
    assert (await _done(scene, "wake", "a")).message == "the weights are not there"
    assert (await _done(scene, "wake", "huge")).code == "insufficient_gpu_memory"


async def test_a_changed_card_replaces_its_engine_when_next_asked_for() -> None:
    scene = Scene([card("a", 60), card("b", 20)])
    for model in ("a", "b"):
        scene.hold(model)
        await scene.run(2)
    scene.cards = [card("a", 70), card("b", 20, priority=3)]
    scene.controller.post(CatalogChanged(config=None))  # type: ignore[arg-type]
    await scene.run(1)
    assert scene.states() == {"b-2": "ready"}, "b's engine does not depend on its priority"
    scene.hold("a")
    await scene.run(2)
    assert scene.states()["a-3"] == "ready"


@pytest.mark.parametrize("seconds", [0.5, 1.5])
async def test_a_card_that_changes_under_a_start_or_a_sleep_leaves_no_outdated_engine(seconds: float) -> None:
    scene = Scene([card("a", 60)])
    scene.fleet.sleep_s = 1.0
    scene.hold("a")
    if seconds > 1:
        await scene.run(1.2)
        scene.order("sleep", "a")
        await scene.run(0.3)
        assert scene.states() == {"a-1": "draining"}
    else:
        await scene.run(seconds)
        assert scene.states() == {"a-1": "starting"}
    scene.cards = [card("a", 70)]
    scene.controller.post(CatalogChanged(config=None))  # type: ignore[arg-type]
    await scene.run(3)
    assert "a-1" not in scene.states()
    assert "a-1" not in scene.fleet.engines
    assert not scene.held, "whoever waited was served by an engine of the new card"


async def test_a_gpu_is_drained_and_stays_empty_until_it_is_undrained() -> None:
    scene = Scene([card("a", 60), card("b", 60)], gpus_mib=(100, 100))
    for model in ("a", "b"):
        scene.hold(model)
        await scene.run(2)
    home = {tracked.model: tracked.gpu for tracked in scene.controller.world.replicas.values()}
    assert len(set(home.values())) == 2
    command = scene.order("drain", gpu=home[ModelId("a")], wait=True)
    await scene.run(4)
    reply = scene.reply(command)
    assert reply is not None
    assert reply.message == f"{home[ModelId('a')]} is empty"
    assert reply.actions == ["a-1"]
    assert scene.controller.world.ledger.free_gpu(home[ModelId("a")]) == 100 * MIB
    scene.hold("a")
    await scene.run(3)
    assert {t.gpu for t in scene.controller.world.of_model(ModelId("a")) if t.state is ReplicaState.READY} <= {
        home[ModelId("b")]
    }
    scene.order("undrain", gpu=home[ModelId("a")])
    await scene.run(0.1)
    assert scene.controller.world.cordoned == set()
    assert scene.store.fleet is not None
    assert not any(gpu.cordoned for gpu in scene.store.fleet.gpus)
    ordered = [each.reason for each in scene.store.decisions if each.action == "gpu_ordered"]
    assert ordered == [f"{home[ModelId('a')]}: {verb} by operator" for verb in ("drain", "undrain")]


async def test_a_drained_gpu_is_still_drained_after_the_controller_died() -> None:
    scene = Scene([card("a", 60)], gpus_mib=(100, 100))
    command = scene.order("drain", gpu="n/gpu-0", wait=False)
    await scene.run(0.1)
    reply = scene.reply(command)
    assert reply is not None
    assert reply.message == "n/gpu-0 takes no new replicas; nothing is on it"
    await scene.restart_controller()
    scene.hold("a")
    await scene.run(2)
    assert [tracked.gpu for tracked in scene.controller.world.replicas.values()] == ["n/gpu-1"]
    assert scene.store.fleet is not None
    assert [gpu.cordoned for gpu in scene.store.fleet.gpus] == [True, False]


async def test_a_gpu_that_is_not_there_cannot_be_drained() -> None:
    scene = Scene([card("a", 60)])
    for verb in ("drain", "undrain"):
        command = scene.order(verb, gpu="n/gpu-7")
        await scene.run(0.1)
        reply = scene.reply(command)
        assert reply is not None
        assert (reply.ok, reply.code) == (False, "gpu_not_found")
        assert "n/gpu-0" in reply.message


async def test_whoever_waits_for_a_drain_is_told_when_it_is_called_off() -> None:
    scene = Scene([card("a", 60)])
    scene.hold("a")
    await scene.run(2)
    scene.busy = {"a-1": 1}
    command = scene.order("drain", gpu="n/gpu-0")
    await scene.run(1)
    assert scene.reply(command) is None, "a request is still being answered there"
    scene.order("undrain", gpu="n/gpu-0")
    await scene.run(0.1)
    reply = scene.reply(command)
    assert reply is not None
    assert reply.code == "undrained"


async def test_a_rejected_configuration_is_shown_and_the_last_good_one_stays() -> None:
    scene = Scene([card("a", 60)])
    scene.controller.post(CatalogRejected("models[0].ttl: is negative"))
    await scene.run(0.1)
    assert scene.store.fleet is not None
    assert scene.store.fleet.config_error == "models[0].ttl: is negative"
    assert [route.model_id for route in scene.store.routes.models] == ["a"]
