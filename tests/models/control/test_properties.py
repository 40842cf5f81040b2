"""Whatever happens, in whatever order: memory is never given out twice, and nobody who fits is forgotten."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from packers.types import ReplicaId, ReplicaState
from tests.models.control.scene import MIB, Scene, card

MODELS = ("a", "b", "c", "d")
SIZES = {"a": 60, "b": 60, "c": 30, "d": 90}

step = st.one_of(
    st.tuples(st.just("hold"), st.sampled_from(MODELS)),
    st.tuples(st.just("busy"), st.integers(0, 7)),
    st.tuples(st.just("idle"), st.just(0)),
    st.tuples(st.just("kill"), st.integers(0, 7)),
    st.tuples(st.just("sleep"), st.sampled_from(MODELS)),
    st.tuples(st.just("stop"), st.sampled_from(MODELS)),
    st.tuples(st.just("fail"), st.sampled_from(MODELS)),
    st.tuples(st.just("heal"), st.just(0)),
    st.tuples(st.just("restart"), st.just(0)),
    st.tuples(st.just("wait"), st.integers(1, 30)),
)


async def _play(steps: list[tuple[str, object]]) -> None:
    scene = Scene([card(name, SIZES[name]) for name in MODELS], gpus_mib=(100, 100), host_mib=120)
    for what, which in steps:
        await _act(scene, what, which)
        await scene.run(0.05)
        _check(scene)
    scene.busy.clear()
    scene.fleet.fail_start.clear()
    await scene.run(10, step_s=0.05)
    for name in MODELS:
        scene.hold(name)
        await scene.run(6, step_s=0.05)
        _check(scene)
        assert name not in scene.held, f"{name} fits an idle GPU, so it must have been served: {scene.states()}"


async def _act(scene: Scene, what: str, which: object) -> None:
    alive = sorted(scene.fleet.engines)
    match what:
        case "hold":
            scene.hold(str(which))
        case "busy" if alive and isinstance(which, int):
            scene.busy = {alive[which % len(alive)]: 1}
        case "idle":
            scene.busy = {}
        case "kill" if alive and isinstance(which, int):
            await scene.fleet.kill(ReplicaId(alive[which % len(alive)]))
        case "sleep" | "stop":
            scene.order(what, str(which))
        case "fail":
            scene.fleet.fail_start[str(which)] = "it is broken"
        case "heal":
            scene.fleet.fail_start.clear()
        case "restart":
            await scene.restart_controller()
        case "wait" if isinstance(which, int):
            await scene.run(which / 10)


def _check(scene: Scene) -> None:
    """What the fleet really runs fits the GPUs, and the ledger has room for all of it."""
    world = scene.controller.world
    used: dict[str, int] = {}
    for replica in scene.fleet.engines:
        tracked = world.replicas.get(replica)
        if tracked is not None and tracked.state is not ReplicaState.ASLEEP:
            used[tracked.gpu] = used.get(tracked.gpu, 0) + tracked.footprint.gpu_bytes
    for gpu, size in used.items():
        assert size <= 100 * MIB, f"{gpu} holds {size}"
    held = {entry.replica for entry in world.ledger.entries()}
    assert held >= {replica for replica, tracked in world.replicas.items() if tracked.state is ReplicaState.READY}
    assert held <= set(world.replicas)


@settings(max_examples=60, deadline=None)
@given(st.lists(step, max_size=25))
def test_the_loop_survives_anything(steps: list[tuple[str, object]]) -> None:
    asyncio.run(_play(steps))
