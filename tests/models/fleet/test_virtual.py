"""The fleet in virtual time: nodes and GPUs that come and go, and controllers that supersede each other."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from models.fleet.protocol import (
    FleetEvent,
    FleetNode,
    GpuBack,
    GpuLost,
    NodeAway,
    NodeJoined,
    NodeLeaving,
    NodeLook,
    NodeLost,
    ReplicaLost,
    StartFailed,
    Superseded,
)
from models.fleet.tag import Tag
from models.fleet.virtual import VirtualClock, VirtualFleet, settle
from models.runtimes.protocol import Budget, Device, EngineOrder, EngineStatus
from packers.types import Footprint, Gpu, GpuId, NodeId, ReplicaId

pytestmark = pytest.mark.anyio
A, B = NodeId("a"), NodeId("b")
GPU = GpuId("a/gpu-0")
ONE = ReplicaId("one")


def node(name: NodeId, gpus: int = 2) -> FleetNode:
    shown = tuple(Gpu(GpuId(f"{name}/gpu-{i}"), name, i, 1 << 20) for i in range(gpus))
    return FleetNode(id=name, address="10.0.0.1", host_bytes=1 << 30, gpus=shown, run_dir="/run/x")


def order(replica: str = "one", gpu: str = GPU) -> EngineOrder:
    return EngineOrder(
        replica_id=replica,
        model_id="m",
        served_names=("m",),
        runtime="torch",
        source="/weights",
        engine_args={},
        device=Device(),
        budget=Budget(weights_bytes=1, kv_cache_bytes=1, overhead_bytes=1),
        http_path=f"/run/x/{replica}.http",
        control_path=f"/run/x/{replica}.ctl",
        log_path=f"/logs/{replica}.log",
        tag=Tag(gpu=GpuId(gpu), card_hash="h", footprint=Footprint(1, 1, 1, host_bytes=1)).encode(),
    )


@dataclass
class Scene:
    clock: VirtualClock = field(default_factory=VirtualClock)
    events: list[FleetEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fleet = VirtualFleet((node(A), node(B)), self.clock)
        self.fleet.subscribe(self.hear)

    async def hear(self, event: FleetEvent) -> None:
        self.events.append(event)

    async def started(self, replica: str = "one", gpu: str = GPU) -> EngineStatus:
        starting = asyncio.ensure_future(self.fleet.start(NodeId(gpu.split("/")[0]), order(replica, gpu)))
        await self.clock.advance(1.0)
        return await starting


async def test_a_node_that_joins_is_told_with_what_runs_on_it_and_can_be_used() -> None:
    scene = Scene()
    await scene.fleet.join_node(node(NodeId("c")))
    assert [each.id for each in await scene.fleet.nodes()] == ["a", "b", "c"]
    await scene.started("one", "c/gpu-1")
    await scene.fleet.node_back(NodeId("c"))
    joined = scene.events[-1]
    assert isinstance(joined, NodeJoined)
    assert [status.order.replica_id for status in joined.engines] == ["one"]


async def test_an_away_node_is_not_shown_observed_or_looked_at_and_refuses_starts() -> None:
    scene = Scene()
    await scene.started()
    await scene.fleet.node_away(A, "it is silent")
    assert scene.events == [NodeAway(node=A, reason="it is silent")]
    assert [each.id for each in await scene.fleet.nodes()] == ["b"]
    assert list(await scene.fleet.observe()) == ["b"]
    assert list(await scene.fleet.look({A: NodeLook(), B: NodeLook()})) == ["b"]
    with pytest.raises(StartFailed, match="a does not answer"):
        await scene.fleet.start(A, order("two"))
    assert await scene.fleet.stop_all() == 0


async def test_what_is_asked_of_an_engine_waits_for_its_node_to_come_back() -> None:
    scene = Scene()
    await scene.started()
    await scene.fleet.node_away(A)
    sleeping = asyncio.ensure_future(scene.fleet.sleep(ONE))
    await scene.clock.advance(20.0)
    assert not sleeping.done()
    await scene.fleet.node_back(A)
    await scene.clock.advance(1.0)
    assert sleeping.result().state == "asleep"


async def test_a_start_under_way_survives_that_its_node_is_away_for_a_while() -> None:
    scene = Scene()
    starting = asyncio.ensure_future(scene.fleet.start(A, order()))
    await settle()
    await scene.fleet.node_away(A)
    await scene.clock.advance(10.0)
    assert not starting.done()
    await scene.fleet.node_back(A)
    assert (await starting).state == "ready"


@pytest.mark.parametrize("verb", ["sleep", "wake"])
async def test_a_node_that_is_given_up_ends_the_wait_for_it(verb: str) -> None:
    scene = Scene()
    await scene.started()
    await scene.fleet.node_away(A)
    changing = asyncio.ensure_future(getattr(scene.fleet, verb)(ONE))
    stopping = asyncio.ensure_future(scene.fleet.stop(ONE))
    await settle()
    await scene.fleet.lose_node(A, "its power is off")
    with pytest.raises(StartFailed, match="a was given up"):
        await changing
    await stopping
    assert scene.events[-1] == NodeLost(node=A, reason="its power is off")
    assert scene.fleet.engines == {}


async def test_engines_of_a_lost_node_may_turn_up_again_with_it() -> None:
    scene = Scene()
    await scene.started()
    await scene.fleet.lose_node(A, alive=True)
    await scene.fleet.stop(ONE)  # nobody waits for what was given up
    await scene.fleet.join_node(node(A))
    joined = scene.events[-1]
    assert isinstance(joined, NodeJoined)
    assert [status.order.replica_id for status in joined.engines] == [ONE]
    stopping = asyncio.ensure_future(scene.fleet.stop(ONE))
    await scene.clock.advance(1.0)
    await stopping
    assert scene.fleet.engines == {}


async def test_an_engine_that_dies_unseen_is_reported_once_its_node_is_back() -> None:
    scene = Scene()
    await scene.started()
    await scene.fleet.node_away(A)
    await scene.fleet.kill(ONE)
    assert len(scene.events) == 1
    await scene.fleet.node_back(A)
    joined, lost = scene.events[1:]
    assert isinstance(joined, NodeJoined)
    assert joined.engines == ()
    assert isinstance(lost, ReplicaLost)
    assert lost.replica_id == ONE


async def test_a_lost_gpu_takes_no_engine_until_it_is_back() -> None:
    scene = Scene()
    await scene.fleet.lose_gpu(GPU, "Xid 79: it has fallen off the bus")
    with pytest.raises(StartFailed, match="a/gpu-0 is lost: Xid 79") as refused:
        await scene.fleet.start(A, order())
    assert refused.value.fault == "memory"
    assert (await scene.started("two", "a/gpu-1")).state == "ready"
    await scene.fleet.gpu_back(GPU)
    assert (await scene.started()).state == "ready"
    assert scene.events == [GpuLost(gpu=GPU, reason="Xid 79: it has fallen off the bus"), GpuBack(gpu=GPU)]


async def test_what_stands_is_told_again_when_a_node_is_back_and_to_a_new_controller() -> None:
    scene = Scene()
    await scene.fleet.lose_gpu(GPU, "broken")
    await scene.fleet.node_leaving(A, 30.0, "a spot reclaim")
    standing = scene.events[:]
    assert standing[1] == NodeLeaving(node=A, at_unix_s=scene.clock() + 30.0, reason="a spot reclaim")
    await scene.fleet.node_away(A)
    await scene.fleet.node_back(A)
    assert scene.events[-2:] == standing
    heard: list[FleetEvent] = []

    async def hear(event: FleetEvent) -> None:
        heard.append(event)

    scene.fleet.beside().subscribe(hear)
    await settle()
    assert heard == standing


async def test_a_later_controller_supersedes_an_earlier_one_on_every_node() -> None:
    scene = Scene()
    assert await scene.fleet.claim(3) == 0
    await scene.started()
    later = scene.fleet.beside()
    assert await later.claim(3) == 3  # not a later one: nothing is claimed
    with pytest.raises(Superseded):
        await later.stop(ONE)
    assert await later.claim(4) == 3
    for command in (
        scene.fleet.start(B, order("two", "b/gpu-0")),
        scene.fleet.sleep(ONE),
        scene.fleet.wake(ONE),
        scene.fleet.stop(ONE),
        scene.fleet.stop_all(),
        scene.fleet.adopt(A, scene.fleet.engines[ONE][1]),
    ):
        with pytest.raises(Superseded, match="obeys controller 4") as stopped:
            await command
        assert stopped.value.epoch == 4
    assert list(scene.fleet.engines) == [ONE]
    stopping = asyncio.ensure_future(later.stop(ONE))
    await scene.clock.advance(1.0)
    await stopping
    assert scene.fleet.engines == {}


async def test_a_node_that_was_away_when_it_was_claimed_obeys_from_the_next_command_on() -> None:
    scene = Scene()
    await scene.fleet.claim(1)
    await scene.started()
    await scene.fleet.node_away(A)
    later = scene.fleet.beside()
    assert await later.claim(2) == 1
    await scene.fleet.node_back(A)
    sleeping = asyncio.ensure_future(later.sleep(ONE))
    await scene.clock.advance(1.0)
    assert (await sleeping).state == "asleep"
    with pytest.raises(Superseded):
        await scene.fleet.wake(ONE)


async def test_a_closed_fleet_hears_nothing_while_the_one_beside_it_does() -> None:
    scene = Scene()
    later = scene.fleet.beside()
    heard: list[FleetEvent] = []

    async def hear(event: FleetEvent) -> None:
        heard.append(event)

    later.subscribe(hear)
    await scene.fleet.close()
    await scene.fleet.node_away(B)
    assert scene.events == []
    assert heard == [NodeAway(node=B, reason="it does not answer")]
