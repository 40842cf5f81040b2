"""Engines that hold more than they have reserved: reported, corrected, and the ledger never over capacity."""

from __future__ import annotations

import msgspec
import pytest

from models.catalog.card import ModelCard
from models.control.footprints import ENGINE_PROCESS_BYTES
from models.control.messages import CatalogChanged, Looked
from models.fleet.protocol import NodeView
from models.runtimes.protocol import Measured
from packers.types import ModelId, ReplicaId
from tests.models.control.scene import MIB, Scene, card

pytestmark = pytest.mark.anyio


def measured(weights: int, kv: int = 0, overhead: int = 0) -> Measured:
    return Measured(
        weights_bytes=weights * MIB,
        kv_cache_bytes=kv * MIB,
        overhead_bytes=overhead * MIB,
        rss_bytes=(weights + 5) * MIB,
    )


def free_mib(scene: Scene, gpu: int = 0) -> int:
    return scene.controller.world.ledger.free_gpu(scene.node.gpus[gpu].id) // MIB


def real(cards: list[ModelCard], gpus_mib: tuple[int, ...] = (100,)) -> Scene:
    """On GPUs that are no simulation: what engines say is what they hold there."""
    return Scene(cards, gpus_mib, simulated=False)


async def ready(scene: Scene, *models: str) -> None:
    for model in models:
        scene.hold(model)
        await scene.run(2)


async def test_what_an_engine_holds_by_kind_is_shown() -> None:
    scene = real([card("a", 60)])
    scene.fleet.memory["a"] = measured(50, 4, 6)
    scene.fleet.detail["a"] = {"path": "fast", "weights": "mapped"}
    await ready(scene, "a")
    assert scene.store.fleet is not None
    (replica,) = scene.store.fleet.replicas
    expected = {"weights": 50, "kv_cache": 4, "overhead": 6, "shared": 0, "rss": 55}
    assert replica.measured == {kind: mib * MIB for kind, mib in expected.items()}
    assert replica.detail == {"path": "fast", "weights": "mapped"}
    assert scene.store.fleet.gpus[0].measured_bytes == 60 * MIB
    assert scene.model("a").measured == {"weights": 50 * MIB, "kv_cache": 4 * MIB, "overhead": 6 * MIB}
    assert scene.model("a").excess_bytes == 0
    assert scene.decided("excess") == []


async def test_within_two_percent_nothing_is_said() -> None:
    scene = real([card("a", 60)])
    scene.fleet.memory["a"] = measured(61)
    await ready(scene, "a")
    assert scene.decided("excess") == []
    assert free_mib(scene) == 40


async def test_where_there_is_room_the_reservation_grows_and_the_next_one_is_larger() -> None:
    scene = real([card("a", 40)])
    scene.fleet.memory["a"] = measured(70)
    await ready(scene, "a")
    assert scene.states() == {"a-1": "ready"}
    assert free_mib(scene) == 30
    first, second = scene.decided("excess")
    assert first.reason == "a-1 holds 70 MiB of n/gpu-0, 40 MiB were reserved"
    assert first.details["excess_bytes"] == 30 * MIB
    assert second.reason == "the reservation of a-1 has grown to 70 MiB"
    model = scene.model("a")
    assert model.footprint["weights"] == 70 * MIB
    assert (model.footprint_from["weights"], model.excess_bytes) == ("measured", 30 * MIB)
    assert scene.cards[0].declared.weights == 40 * MIB, "the operator's card stays as it is"
    await scene.run(3)
    assert scene.store.meters.excess_bytes == {"a": 30 * MIB}


async def test_an_idle_neighbour_makes_room() -> None:
    scene = real([card("a", 40), card("b", 50)])
    await ready(scene, "b")
    scene.fleet.memory["a"] = measured(70)
    await ready(scene, "a")
    assert scene.states() == {"a-2": "ready", "b-1": "asleep"}
    assert free_mib(scene) == 30
    (sleep,) = scene.decided("sleep")
    assert (sleep.model_id, sleep.evicted_for) == ("b", "a")


async def test_where_nobody_may_leave_the_replica_itself_is_drained_and_started_again_where_it_fits() -> None:
    scene = real([card("a", 40), card("b", 50, pinned=True)], gpus_mib=(100, 100))
    await ready(scene, "b")
    world = scene.controller.world
    scene.fleet.memory["a"] = measured(70)
    beside = [gpu.id for gpu in scene.node.gpus].index(world.replicas[ReplicaId("b-1")].gpu)
    world.cordoned.add(scene.node.gpus[1 - beside].id)
    scene.hold("a")
    await scene.run(1.3)
    assert "a-2" not in scene.states()
    world.cordoned.clear()
    assert "it holds 30 MiB more than was reserved" in scene.decided("excess")[-1].reason
    scene.hold("a")
    await scene.run(2)
    assert world.replicas[ReplicaId("a-3")].gpu != world.replicas[ReplicaId("b-1")].gpu
    assert scene.states()["a-3"] == "ready"
    assert len(scene.decided("excess")) == 2, "the second one has reserved what it holds"


async def test_a_card_that_lies_beyond_any_gpu_ends_in_a_state_with_a_reason() -> None:
    scene = real([card("liar", 10), card("b", 50)])
    await ready(scene, "b")
    scene.fleet.memory["liar"] = measured(400)
    await ready(scene, "liar")
    assert "liar-2" not in scene.states()
    scene.hold("liar")
    await scene.run(1)
    failure = scene.route("liar").failure
    assert failure is not None
    assert failure.permanent
    assert "400 MiB" in failure.message
    assert "Its card says 10 MiB, but it was measured to hold 400 MiB." in failure.message
    assert scene.states() == {"b-1": "ready"}, "nobody else had to go for it"
    assert scene.held == {}


async def test_an_operator_may_have_a_model_measured_again() -> None:
    scene = real([card("a", 40)])
    scene.fleet.memory["a"] = measured(300)
    await ready(scene, "a")
    assert scene.states() == {}
    assert scene.model("a").failure is not None or scene.model("a").excess_bytes > 0
    scene.hold("a")
    await scene.run(0.5)
    scene.fleet.memory["a"] = measured(40)
    scene.order("wake", "a")
    await scene.run(2)
    assert list(scene.states().values()) == ["ready"]
    assert (scene.model("a").failure, scene.model("a").excess_bytes) == (None, 0)


async def test_memory_that_grows_while_it_serves_is_seen_and_a_leak_ends_the_replica() -> None:
    scene = real([card("a", 40)])
    scene.fleet.memory["a"] = measured(40)
    await ready(scene, "a")
    for mib in (60, 90):
        scene.fleet.memory["a"] = measured(40, 0, mib - 40)
        scene.used["a"] = scene.clock()
        await scene.look()
        assert free_mib(scene) == 100 - mib
    scene.fleet.memory["a"] = measured(40, 0, 70)
    scene.used["a"] = scene.clock()
    await scene.look(1.0)
    assert scene.states() == {}
    assert free_mib(scene) == 100
    reasons = [decision.reason for decision in scene.decided("excess")]
    assert reasons[-2] == "a-1 holds 110 MiB of n/gpu-0, 90 MiB were reserved"
    assert reasons[-1].startswith("a-1 is drained: ")


async def test_a_busy_replica_that_has_to_go_finishes_what_it_has() -> None:
    scene = real([card("a", 40)])
    await ready(scene, "a")
    scene.busy = {"a-1": 1}
    await scene.run(0.1)
    scene.fleet.memory["a"] = measured(120)
    await scene.look(1.0)
    assert scene.states() == {"a-1": "draining"}
    scene.busy = {}
    await scene.run(0.5)
    assert scene.states() == {}


async def test_estimates_give_way_to_what_was_measured_after_serving() -> None:
    wide = card("a", 60).model_copy(update={"declared": card("a", 60).declared.model_copy(update={"overhead": None})})
    scene = real([wide], gpus_mib=(200,))
    assert (
        scene.controller.world.judged(scene.controller.world.entries[ModelId("a")]).footprint.overhead_bytes == 64 * MIB
    )
    scene.fleet.memory["a"] = measured(60, 0, 10)
    await ready(scene, "a")
    assert scene.model("a").footprint["overhead"] == 64 * MIB, "it has not served yet"
    scene.used["a"] = scene.clock()
    await scene.run(0.05)
    await scene.look()
    assert scene.model("a").footprint["overhead"] == 10 * MIB
    assert scene.model("a").footprint_from["overhead"] == "measured"
    assert free_mib(scene) == 200 - 124, "what it was promised it keeps"
    scene.order("stop", "a")
    await scene.run(1)
    await ready(scene, "a")
    assert free_mib(scene) == 200 - 70


async def test_what_was_learned_outlives_the_controller_and_ends_with_the_card() -> None:
    scene = real([card("a", 40)])
    scene.fleet.memory["a"] = measured(70)
    await ready(scene, "a")
    await scene.restart_controller(remembers=True)
    await scene.run(1)
    assert scene.model("a").footprint["weights"] == 70 * MIB
    assert free_mib(scene) == 30
    scene.fleet.memory.clear()
    scene.cards = [card("a", 50)]
    scene.controller.post(CatalogChanged(config=None))  # type: ignore[arg-type]
    await scene.run(2)
    assert scene.model("a").footprint["weights"] == 50 * MIB
    assert scene.model("a").excess_bytes == 0


async def test_a_sleeping_one_that_leaves_more_behind_than_said_reserves_that() -> None:
    scene = real([card("a", 60)])
    scene.fleet.memory_asleep["a"] = measured(0, 0, 12)
    await ready(scene, "a")
    scene.order("sleep", "a")
    await scene.run(1)
    assert scene.states() == {"a-1": "asleep"}
    assert free_mib(scene) == 88
    assert scene.model("a").footprint["residue"] == 12 * MIB
    scene.order("wake", "a")
    await scene.run(1)
    assert free_mib(scene) == 40


async def test_a_sleeping_one_whose_residue_has_no_room_is_ended() -> None:
    scene = real([card("a", 60), card("b", 95, pinned=True)])
    await ready(scene, "a")
    scene.order("sleep", "a")
    await scene.run(1)
    await ready(scene, "b")
    scene.fleet.memory_asleep["a"] = measured(0, 0, 20)
    world = scene.controller.world
    status = scene.fleet.engines[ReplicaId("a-1")][1]
    view = NodeView(engines=(msgspec.structs.replace(status, measured=measured(0, 0, 20)),))
    scene.controller.post(Looked({scene.node.id: view}))
    await scene.run(1)
    assert scene.states() == {"b-2": "ready"}
    assert world.ledger.get(ReplicaId("a-1")) is None


async def test_a_real_gpus_own_figures_are_shown() -> None:
    scene = real([card("a", 60)])
    scene.fleet.used_bytes["n/gpu-0"] = 77 * MIB
    await scene.look(1.5)
    assert scene.store.fleet is not None
    assert scene.store.fleet.gpus[0].used_bytes == 77 * MIB


async def test_on_a_simulated_gpu_only_what_would_be_on_a_real_one_counts() -> None:
    """There the private memory of a process stands for overhead: less than any process takes is none."""
    scene = Scene([card("a", 60)])
    process_mib = ENGINE_PROCESS_BYTES // MIB
    scene.fleet.memory["a"] = measured(50, 0, 50 + process_mib)
    scene.fleet.memory_asleep["a"] = measured(0, 0, process_mib)
    await ready(scene, "a")
    assert scene.decided("excess") == []
    assert scene.store.fleet is not None
    assert scene.store.fleet.replicas[0].measured == pytest.approx(
        {"weights": 50 * MIB, "kv_cache": 0, "overhead": 0, "shared": 0, "rss": 55 * MIB}
    )
    scene.fleet.memory["a"] = measured(50, 0, 50 + process_mib + 30)
    scene.used["a"] = scene.clock()
    await scene.run(0.1)
    await scene.look()
    assert scene.decided("excess")[0].reason == "a-1 holds 80 MiB of n/gpu-0, 60 MiB were reserved", "a leak is one"
    scene.order("sleep", "a")
    await scene.run(1)
    assert scene.states() == {"a-1": "asleep"}
    assert free_mib(scene) == 100
