"""Whatever happens, in whatever order: memory is never given out twice, and nobody who fits is forgotten."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.control.footprints import exceeds
from models.runtimes.protocol import Measured
from packers.ledger import Ledger
from packers.types import ModelId, ReplicaId, ReplicaState
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
    st.tuples(st.just("lie"), st.tuples(st.sampled_from(MODELS), st.integers(0, 150), st.integers(0, 30))),
    st.tuples(st.just("look"), st.just(0)),
    st.tuples(st.just("bad layout"), st.sampled_from(MODELS)),
    st.tuples(st.just("bad weights"), st.sampled_from(MODELS)),
    st.tuples(st.just("wait"), st.integers(1, 30)),
)


async def _play(steps: list[tuple[str, object]]) -> None:
    scene = Scene([card(name, SIZES[name]) for name in MODELS], gpus_mib=(100, 100), host_mib=120, simulated=False)
    for what, which in steps:
        await _act(scene, what, which)
        _spoil(scene, what, which)
        await scene.run(0.05)
        _check(scene)
    scene.busy.clear()
    scene.fleet.fail_start.clear()
    scene.fleet.bad_weights.clear()
    await scene.run(10, step_s=0.05)
    for name in MODELS:
        if scene.controller.world.judged(scene.controller.world.entries[ModelId(name)]).footprint.gpu_bytes > 100 * MIB:
            continue  # it was measured to be larger than any GPU
        scene.order("wake", name)  # an operator's word ends every wait that crashes have earned it
        scene.hold(name)
        await scene.run(8, step_s=0.05)
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
            await scene.restart_controller(remembers=True)
        case "look":
            await scene.onlooker.look()
        case "wait" if isinstance(which, int):
            await scene.run(which / 10)


def _spoil(scene: Scene, what: str, which: object) -> None:
    """Engines that hold other than they should, and compute other than they should."""
    fleet = scene.fleet
    match what:
        case "lie" if isinstance(which, tuple):
            name, mib, residue_mib = which
            asleep = Measured(weights_bytes=0, kv_cache_bytes=0, rss_bytes=0, overhead_bytes=residue_mib * MIB)
            fleet.memory[name] = Measured(weights_bytes=mib * MIB, kv_cache_bytes=0, rss_bytes=0)
            fleet.memory_asleep[name] = asleep
            scene.used[name] = scene.clock()
        case "bad layout":
            fleet.bad_layouts.add(str(which))
        case "bad weights":
            fleet.bad_weights.add(str(which))


def _check(scene: Scene) -> None:
    """What the fleet really runs fits the GPUs, and the ledger has room for all of it and says the same."""
    world = scene.controller.world
    used: dict[str, int] = {}
    for replica in scene.fleet.engines:
        tracked = world.replicas.get(replica)
        if tracked is not None and tracked.state is not ReplicaState.ASLEEP:
            used[tracked.gpu] = used.get(tracked.gpu, 0) + tracked.footprint.gpu_bytes
    for gpu, size in used.items():
        assert size <= 100 * MIB, f"{gpu} holds {size}"
    for node_gpu in world.gpus:
        assert 0 <= world.ledger.free_gpu(node_gpu.id) <= 100 * MIB
    assert world.ledger.free_host(scene.node.id) >= 0
    snapshot = world.snapshot(scene.clock())
    said = {entry.replica: entry for entry in Ledger.of(snapshot).entries()}  # raises when it is over capacity
    for entry in world.ledger.entries():
        assert said[entry.replica].gpu_bytes == entry.gpu_bytes, "packers count with what the ledger has"
    for tracked in world.replicas.values():
        if tracked.state is ReplicaState.READY and tracked.owed is None:
            held = tracked.holds_bytes
            assert not exceeds(held, tracked.footprint.gpu_bytes), "what exceeds its reservation grows, waits or leaves"
    reserving = {entry.replica for entry in world.ledger.entries()}
    assert reserving >= {replica for replica, tracked in world.replicas.items() if tracked.state is ReplicaState.READY}
    assert reserving <= set(world.replicas)


class Complaints(logging.Handler):
    """Errors in the loop's log: plans that could not be applied, steps that failed."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@pytest.fixture
def complaints() -> Iterator[Complaints]:
    handler, log = Complaints(), logging.getLogger("roundhouse.control")
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(step, max_size=25))
def test_the_loop_survives_anything(complaints: Complaints, steps: list[tuple[str, object]]) -> None:
    complaints.said.clear()
    asyncio.run(_play(steps))
    assert complaints.said == [], "every plan could be applied"
