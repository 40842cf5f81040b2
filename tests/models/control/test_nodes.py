"""Nodes and GPUs that come, go away, come back, are lost and are taken away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest

from models.catalog.service import PoolSettings
from models.control import actions
from models.control.nodes import JOIN_WITHIN_S, LET_OFF_AFTER_S, RECLAIM_DRAIN_S, RECLAIM_MARGIN_S
from models.control.pools import PoolBook
from models.runtimes.protocol import EngineStatus
from packers.types import GpuId, NodeId, PoolId, PoolKind, ReplicaId
from tests.models.control.cluster import Cluster, node
from tests.models.control.scene import MIB, card

pytestmark = pytest.mark.anyio
A = NodeId("a")
Observe = Callable[[], Awaitable[dict[NodeId, tuple[EngineStatus, ...]]]]


async def test_a_node_that_joins_takes_what_waited_for_room() -> None:
    cluster = Cluster([card("m", 80), card("o", 80, min_replicas=1)], [node("a")])
    await cluster.run(2)
    cluster.busy = {"o-1": 1}
    cluster.hold("m")
    await cluster.run(1)
    assert "m" in cluster.held, "the only GPU is taken"
    await cluster.fleet.join_node(node("b"))
    await cluster.run(2)
    assert cluster.where("m") == ["b/gpu-0"]
    assert "m" not in cluster.held
    assert cluster.stands("b").state == "ready"
    assert cluster.decided("node_joined")[0].reason == "b has joined with 1 GPU"
    cluster.check()


async def test_a_model_that_was_too_large_is_refused_no_more_when_a_larger_gpu_joins() -> None:
    cluster = Cluster([card("m", 300)], [node("a")])
    cluster.hold("m")
    await cluster.run(0.5)
    failure = cluster.route("m").failure
    assert failure is not None
    assert failure.permanent
    await cluster.fleet.join_node(node("b", 400))
    await cluster.run(0.1)
    assert cluster.route("m").failure is None
    await cluster.ready("m")
    assert cluster.where("m") == ["b/gpu-0"]


async def test_while_a_node_is_away_its_replicas_stay_in_the_routes_and_nothing_new_goes_there() -> None:
    cluster = Cluster([card("m", 60), card("o", 60)], [node("a"), node("b")])
    await cluster.ready("m")
    assert cluster.where("m") == ["a/gpu-0"]
    await cluster.fleet.node_away(A, "cut off")
    await cluster.run(1)
    assert cluster.served("m")
    assert (cluster.stands("a").state, cluster.stands("a").reason) == ("away", "cut off")
    await cluster.ready("o")
    assert cluster.where("o") == ["b/gpu-0"]
    await cluster.run(800, step_s=1.0)
    assert cluster.where("m") == ["a/gpu-0"], "its ttl is over, but nobody can be told"
    assert not any(call.startswith(("stop m", "sleep m")) for call in cluster.fleet.calls)
    await cluster.fleet.node_back(A)
    await cluster.run(2)
    assert cluster.states()["m-1"] == "asleep"
    cluster.check()


async def test_a_replica_of_a_node_that_is_away_is_not_put_out_for_others() -> None:
    cluster = Cluster([card("m", 80), card("o", 80)], [node("a")])
    await cluster.ready("m")
    await cluster.fleet.node_away(A)
    cluster.hold("o")
    await cluster.run(1)
    assert cluster.states() == {"m-1": "ready"}
    assert "a is away" in cluster.decided("hold")[-1].reason
    await cluster.fleet.node_back(A)
    await cluster.run(2)
    assert cluster.where("o") == ["a/gpu-0"]
    cluster.check()


async def test_an_engine_that_died_while_its_node_was_away_is_gone_when_it_is_back() -> None:
    cluster = Cluster([card("m", 60)], [node("a")])
    await cluster.ready("m")
    await cluster.run(3, step_s=0.1)
    await cluster.fleet.node_away(A)
    await cluster.run(1)
    await cluster.fleet.kill(ReplicaId("m-1"))
    await cluster.run(1)
    assert cluster.served("m"), "nobody can know"
    await cluster.fleet.node_back(A)
    await cluster.run(0.1)
    assert cluster.states() == {}
    await cluster.ready("m")
    cluster.check()


async def test_a_start_on_a_node_that_goes_away_is_made_elsewhere_and_one_of_the_two_goes_when_it_is_back() -> None:
    cluster = Cluster([card("m", 60)], [node("a"), node("b")])
    cluster.hold("m")
    await cluster.run(0.5)
    assert cluster.where("m") == ["a/gpu-0"]
    await cluster.fleet.node_away(A)
    await cluster.run(2)
    assert cluster.served("m")
    assert "m" not in cluster.held
    assert cluster.model("m").failure is None
    await cluster.fleet.node_back(A)
    await cluster.run(3)
    assert len(cluster.where("m")) == 1
    assert len(cluster.fleet.engines) == 1
    cluster.check()


async def test_a_lost_node_takes_its_replicas_along_and_its_callers_are_served_elsewhere() -> None:
    cluster = Cluster([card("m", 60, min_replicas=1), card("o", 60)], [node("a"), node("b")])
    await cluster.run(2)
    await cluster.ready("o")
    assert (cluster.where("m"), cluster.where("o")) == (["a/gpu-0"], ["b/gpu-0"])
    await cluster.fleet.node_away(A)
    await cluster.run(1)
    await cluster.fleet.lose_node(A, "given up after 30 s")
    await cluster.run(2)
    assert cluster.where("m") == ["b/gpu-0"], "it makes room for itself there"
    assert cluster.stands("a").state == "lost"
    assert not cluster.stands("a").alive
    died = cluster.decided("died")[0]
    assert "a is lost: given up after 30 s" in died.reason
    assert cluster.store.fleet is not None
    assert {gpu.id: bool(gpu.lost) for gpu in cluster.store.fleet.gpus} == {"b/gpu-0": False, "a/gpu-0": True}
    cluster.check()
    await cluster.run(700, step_s=1.0)
    assert [each.id for each in cluster.store.fleet.nodes] == ["b"], "it was shown for a while"


async def test_engines_that_lived_on_are_adopted_when_a_lost_node_joins_again_unless_their_place_was_taken() -> None:
    cluster = Cluster([card("m", 60), card("o", 30)], [node("a"), node("b")])
    await cluster.ready("m", "o", seconds=3)
    assert cluster.where("m") == cluster.where("o") == ["a/gpu-0"]
    await cluster.fleet.lose_node(A, alive=True)
    await cluster.run(0.1)
    assert cluster.states() == {}
    await cluster.ready("m")
    assert cluster.where("m") == ["b/gpu-0"]
    await cluster.fleet.join_node(node("a"))
    await cluster.run(0.02)
    cluster.check()
    assert cluster.there("a") == {"m-1": "draining", "o-2": "ready"}
    await cluster.run(1)
    assert cluster.there("a") == {"o-2": "ready"}
    assert cluster.where("m") == ["b/gpu-0"]
    assert "its place was taken meanwhile" in cluster.decided("unwanted")[0].reason


async def test_nothing_is_placed_where_an_unwanted_engine_still_is() -> None:
    cluster = Cluster([card("m", 80), card("o", 80)], [node("a"), node("b")])
    cluster.fleet.stop_s = 5.0
    await cluster.ready("m")
    await cluster.fleet.lose_node(A, alive=True)
    await cluster.ready("m")
    cluster.busy = {"m-2": 1}
    await cluster.fleet.join_node(node("a"))
    cluster.hold("o")
    await cluster.run(2)
    cluster.check()
    assert "o" in cluster.held, "the old engine of m still holds its memory"
    await cluster.run(5)
    assert cluster.where("o") == ["a/gpu-0"]
    cluster.check()


async def test_a_gpu_that_is_lost_takes_its_replicas_along_and_is_back_when_it_is_back() -> None:
    cluster = Cluster([card("m", 60), card("o", 60)], [node("a", 100, 100)])
    await cluster.ready("m", "o", seconds=3)
    assert (cluster.where("m"), cluster.where("o")) == (["a/gpu-0"], ["a/gpu-1"])
    await cluster.fleet.lose_gpu(GpuId("a/gpu-0"), "Xid 79: it has fallen off the bus")
    await cluster.run(0.1)
    assert cluster.store.fleet is not None
    lost = next(gpu for gpu in cluster.store.fleet.gpus if gpu.id == "a/gpu-0")
    assert (lost.lost, lost.free_bytes) == ("Xid 79: it has fallen off the bus", 0)
    assert "stop m-1" in cluster.fleet.calls, "its process is of no use any more"
    assert cluster.states() == {"o-2": "ready"}
    cluster.hold("m")
    await cluster.run(2)
    assert cluster.where("m") == ["a/gpu-1"]
    cluster.check()
    await cluster.fleet.gpu_back(GpuId("a/gpu-0"))
    await cluster.ready("o")
    assert cluster.where("o") == ["a/gpu-0"]
    assert [decision.reason for decision in cluster.decided("gpu_back")] == ["a/gpu-0 is back"]
    cluster.check()


async def test_a_start_that_a_lost_gpu_ended_is_no_failure_of_the_model() -> None:
    cluster = Cluster([card("m", 60)], [node("a", 100, 100)])
    cluster.hold("m")
    await cluster.run(0.5)
    await cluster.fleet.lose_gpu(GpuId("a/gpu-0"))
    await cluster.run(2)
    assert cluster.model("m").failure is None
    assert cluster.where("m") == ["a/gpu-1"]
    assert "m" not in cluster.held


async def test_a_node_that_will_be_taken_away_is_left_in_order() -> None:
    cluster = Cluster([card("m", 60, min_replicas=1), card("o", 30)], [node("a"), node("b")])
    await cluster.run(2)
    await cluster.ready("o")
    cluster.busy = {"m-1": 1}
    await cluster.fleet.node_leaving(A, 120.0, "spot reclaim")
    await cluster.run(0.5)
    assert (cluster.stands("a").state, cluster.stands("a").reason) == ("leaving", "spot reclaim")
    assert sorted(cluster.where("m")) == ["a/gpu-0", "b/gpu-0"], "the substitute first"
    await cluster.run(1.5)
    assert cluster.there("a")["m-1"] == "draining"
    cluster.busy = {}
    await cluster.run(1)
    assert cluster.there("a") == {}
    assert cluster.where("m") == ["b/gpu-0"]
    cluster.check()


async def test_what_finds_no_place_elsewhere_ends_in_time_with_its_callers() -> None:
    cluster = Cluster([card("m", 80)], [node("a")])
    cluster.controller._endings._drain_timeout_s = 60.0
    await cluster.ready("m")
    cluster.busy = {"m-1": 3}
    gone_at_s = cluster.clock() + 30
    await cluster.fleet.node_leaving(A, 30.0)
    await cluster.run(30 - RECLAIM_MARGIN_S - RECLAIM_DRAIN_S - 1, step_s=0.1)
    assert cluster.states() == {"m-1": "ready"}
    await cluster.run(2, step_s=0.1)
    assert cluster.states() == {"m-1": "draining"}, "nothing new is sent there"
    await cluster.run(gone_at_s - RECLAIM_MARGIN_S - cluster.clock() - 0.5, step_s=0.1)
    assert cluster.states() == {"m-1": "draining"}, "they may finish"
    await cluster.run(1, step_s=0.1)
    assert cluster.fleet.engines == {}
    assert cluster.clock() < gone_at_s
    await cluster.fleet.lose_node(A)
    cluster.busy = {}
    cluster.hold("m")
    await cluster.run(1)
    assert "m" in cluster.held, "with no GPU at all it is held until its deadline: one may join"
    await cluster.fleet.join_node(node("b"))
    await cluster.run(2)
    assert "m" not in cluster.held


async def test_a_node_that_was_to_be_taken_away_and_does_not_answer_is_gone_at_its_time() -> None:
    cluster = Cluster([card("m", 60, min_replicas=1)], [node("a"), node("b")])
    await cluster.run(2)
    await cluster.fleet.node_away(A, "cut off")
    cluster.order_node("reclaim", "a", in_s=5.0)
    await cluster.run(4, step_s=0.1)
    assert cluster.where("m") == ["a/gpu-0"]
    await cluster.run(4, step_s=0.1)
    assert cluster.stands("a").state == "lost"
    assert "was to be taken away by now" in cluster.stands("a").reason
    assert cluster.where("m") == ["b/gpu-0"]
    await cluster.fleet.lose_node(A)
    await cluster.run(0.1)
    assert len(cluster.decided("node_lost")) == 1
    cluster.check()


async def test_a_start_on_a_node_without_time_left_is_made_elsewhere() -> None:
    cluster = Cluster([card("m", 60)], [node("a"), node("b")])
    cluster.fleet.start_s = 60.0
    cluster.hold("m")
    await cluster.run(0.5)
    await cluster.fleet.node_leaving(A, 20.0)
    await cluster.run(6, step_s=0.1)
    assert cluster.where("m") == ["b/gpu-0"]
    assert cluster.model("m").failure is None


async def test_a_machine_of_the_same_name_that_joins_later_is_not_leaving() -> None:
    cluster = Cluster([card("m", 60)], [node("a")])
    cluster.order_node("reclaim", "a", in_s=20.0)
    await cluster.run(1)
    await cluster.fleet.node_away(A)
    await cluster.run(1)
    await cluster.fleet.node_back(A)
    await cluster.run(1)
    assert cluster.stands("a").state == "leaving", "its time has not come, and only an operator takes it back"
    await cluster.run(20, step_s=0.1)
    await cluster.fleet.lose_node(A)
    await cluster.run(1)
    await cluster.fleet.join_node(node("a"))
    await cluster.ready("m")
    assert cluster.stands("a").state == "ready"


async def test_a_notice_that_is_called_off_is_forgotten() -> None:
    cluster = Cluster([card("m", 60)], [node("a")])
    await cluster.fleet.node_leaving(A, 20.0)
    await cluster.run(1)
    assert cluster.stands("a").state == "leaving"
    cluster.fleet._nodes.get(A).leaving = None
    await cluster.fleet.join_node(node("a"))  # that is how the fleet says so
    await cluster.ready("m")
    assert cluster.stands("a").state == "ready"


async def test_a_node_that_is_still_there_long_after_its_time_was_let_off() -> None:
    cluster = Cluster([card("m", 60)], [node("a")])
    await cluster.fleet.node_leaving(A, 20.0)
    await cluster.run(20 + LET_OFF_AFTER_S - 5, step_s=0.5)
    assert cluster.stands("a").state == "leaving"
    await cluster.restart_controller()
    await cluster.run(1)
    assert cluster.stands("a").state == "leaving", "written down until the fleet says otherwise"
    await cluster.run(10, step_s=0.5)
    assert cluster.stands("a").state == "ready"
    await cluster.ready("m")


async def test_a_new_controller_keeps_what_serves_on_a_node_that_is_away() -> None:
    cluster = Cluster([card("m", 60), card("o", 60)], [node("a"), node("b")])
    await cluster.ready("m")
    await cluster.ready("o")
    assert (cluster.where("m"), cluster.where("o")) == (["a/gpu-0"], ["b/gpu-0"])
    await cluster.fleet.node_away(A)
    await cluster.run(1)
    assert cluster.store.fleet is not None
    known = cluster.store.fleet
    reached = tuple(msgspec.structs.replace(one, address="http://10.0.0.2:7") for one in known.replicas)
    cluster.store.fleet = msgspec.structs.replace(known, replicas=reached)
    assert await cluster.restart_controller() == 1
    await cluster.run(1)
    assert cluster.states() == {"m-1": "ready", "o-2": "ready"}
    assert cluster.route("m").replicas[0].address == "http://10.0.0.2:7", "gateways of other nodes route to it still"
    assert cluster.served("m")
    assert cluster.stands("a").state == "away"
    cluster.check()
    await cluster.fleet.node_back(A)
    await cluster.run(0.1)
    assert cluster.states() == {"m-1": "ready", "o-2": "ready"}
    assert cluster.stands("a").state == "ready"
    assert "adopt m-1" in cluster.fleet.calls
    assert not cluster.decided("died")
    cluster.check()


async def test_a_node_that_is_there_and_silent_keeps_its_replicas_and_gets_nothing_new_until_it_says_what_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(actions, "AGAIN_S", 0.0)
    for remembered in (True, False):
        cluster = Cluster([card("m", 80), card("o", 80)], [node("a")])
        await cluster.ready("m")
        observe, silent = cluster.fleet.observe, 50

        async def say_nothing(observe: Observe = observe) -> dict[NodeId, tuple[EngineStatus, ...]]:
            nonlocal silent
            silent -= 1
            return {} if silent > 0 else await observe()

        cluster.fleet.observe = say_nothing  # type: ignore[method-assign]
        if not remembered:
            cluster.store.fleet = None
        await cluster.restart_controller()
        cluster.hold("o")
        cluster.busy = {"m-1": 1}
        await cluster.run(0.02)
        assert cluster.stands("a").state == "away"
        assert cluster.states() == ({"m-1": "ready"} if remembered else {})
        await cluster.run(0.5)
        assert cluster.stands("a").state == "ready"
        assert cluster.states() == {"m-1": "ready"}
        assert [call for call in cluster.fleet.calls if call.startswith("start")] == ["start m-1"]
        cluster.check()


async def test_a_node_that_does_not_join_a_new_controller_is_given_up() -> None:
    cluster = Cluster([card("m", 60, min_replicas=1)], [node("a"), node("b")])
    await cluster.run(2)
    await cluster.fleet.node_away(A)
    await cluster.run(1)
    await cluster.restart_controller()
    await cluster.run(JOIN_WITHIN_S - 2, step_s=0.1)
    assert cluster.where("m") == ["a/gpu-0"]
    await cluster.run(5, step_s=0.1)
    assert cluster.where("m") == ["b/gpu-0"]
    assert cluster.stands("a").state == "lost"
    await cluster.fleet.node_back(A)
    await cluster.run(3)
    assert cluster.where("m") == ["b/gpu-0"]
    assert len(cluster.fleet.engines) == 1
    cluster.check()


async def test_what_died_while_neither_controller_nor_node_was_there_is_noted() -> None:
    cluster = Cluster([card("m", 60)], [node("a"), node("b")])
    await cluster.ready("m")
    await cluster.fleet.node_away(A)
    await cluster.restart_controller()
    await cluster.run(1)
    await cluster.fleet.kill(ReplicaId("m-1"))
    await cluster.fleet.node_back(A)
    await cluster.run(0.1)
    assert cluster.states() == {}
    assert "ended while no controller watched" in cluster.decided("died")[0].reason
    cluster.check()


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (node("b", 0), "GPU b/gpu-0 has 0 bytes of memory"),
        (node("b", 100, host_mib=-1), "bytes of host RAM"),
    ],
)
async def test_a_node_that_cannot_be_as_it_says_is_not_taken(bad: object, why: str) -> None:
    cluster = Cluster([card("m", 60)], [node("a")])
    await cluster.fleet.join_node(bad)  # type: ignore[arg-type]
    await cluster.run(0.1)
    assert why in cluster.decided("node_refused")[0].reason
    assert cluster.stands("b").state == "lost"
    assert cluster.controller.world.nodes.keys() == {A}
    await cluster.fleet.join_node(node("b"))
    await cluster.run(0.1)
    assert cluster.stands("b").state == "ready"


async def test_two_nodes_cannot_have_the_same_gpu() -> None:
    cluster = Cluster([card("m", 60)], [node("a")])
    stolen = msgspec.structs.replace(node("b"), gpus=node("a").gpus)
    await cluster.fleet.join_node(stolen)
    await cluster.run(0.1)
    assert "says that it is on node a" in cluster.decided("node_refused")[0].reason
    cluster.check()


async def test_a_gpu_that_comes_back_smaller_is_cleared_until_the_rest_fits() -> None:
    cluster = Cluster([card("m", 60), card("o", 30, priority=1)], [node("a"), node("b", 50)])
    await cluster.ready("m", "o", seconds=3)
    assert cluster.where("m") == ["a/gpu-0"]
    assert cluster.where("o") == ["a/gpu-0"] or cluster.where("o") == ["b/gpu-0"]
    await cluster.fleet.node_away(A)
    await cluster.fleet.join_node(node("a", 50))
    await cluster.run(0.02)
    cluster.check()
    await cluster.run(2)
    assert cluster.there("a").get("m-1") is None, "it does not fit any more"
    assert next(gpu for gpu in cluster.controller.world.gpus if gpu.node == A).memory_bytes == 50 * MIB
    cluster.check()


async def test_host_memory_that_a_node_lost_goes_as_its_sleepers_go() -> None:
    cluster = Cluster([card("m", 60), card("o", 60)], [node("a", host_mib=100)])
    await cluster.ready("m")
    await cluster.ready("o")
    assert cluster.states() == {"m-1": "asleep", "o-2": "ready"}
    await cluster.fleet.join_node(node("a", host_mib=10))
    await cluster.run(0.1)
    assert cluster.stands("a").host_bytes == 60 * MIB
    cluster.order("stop", "m")
    await cluster.run(1)
    assert cluster.stands("a").host_bytes == 10 * MIB
    cluster.check()


async def test_a_gpu_that_its_node_does_not_have_any_more_is_gone() -> None:
    cluster = Cluster([card("m", 60), card("o", 60)], [node("a", 100, 100)])
    await cluster.ready("m", "o", seconds=3)
    await cluster.fleet.join_node(node("a", 100))
    await cluster.run(0.1)
    assert cluster.states() == {"m-1": "ready"}
    assert [gpu.id for gpu in cluster.controller.world.gpus] == ["a/gpu-0"]
    cluster.check()


async def test_owned_nodes_come_first_then_the_cheaper_pool() -> None:
    cards = [card(f"m{number}", 80) for number in range(3)]
    cluster = Cluster(cards, [node("a", pool=PoolId("dear")), node("b", pool=PoolId("cheap"))])
    cluster.controller.world.pools = PoolBook.of(
        [
            PoolSettings(name="dear", kind=PoolKind.BURST, price_per_gpu_hour=4),
            PoolSettings(name="cheap", kind=PoolKind.BURST, price_per_gpu_hour=1.5),
        ]
    )
    await cluster.fleet.join_node(node("c"))
    await cluster.run(0.1)
    for name in ("m0", "m1", "m2"):
        await cluster.ready(name)
        cluster.busy[f"{name}-{int(name[1]) + 1}"] = 1
    assert [cluster.where(name) for name in ("m0", "m1", "m2")] == [["c/gpu-0"], ["b/gpu-0"], ["a/gpu-0"]]
    assert cluster.store.fleet is not None
    assert {gpu.id: gpu.pool for gpu in cluster.store.fleet.gpus}["b/gpu-0"] == "cheap"
