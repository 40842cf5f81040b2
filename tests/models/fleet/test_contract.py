"""What every fleet keeps to: the one in virtual time and Ray's, on real processes."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from models.fleet.protocol import FleetEvent, ReplicaLost, StartFailed, Superseded
from models.fleet.tag import Tag
from models.runtimes.protocol import Budget, Device, EngineOrder
from packers.types import Footprint, NodeId, ReplicaId
from tests.models.fleet.conftest import Stage

pytestmark = pytest.mark.anyio
_numbers = itertools.count(1)


def order(stage: Stage, source: str = "fine") -> EngineOrder:
    replica = f"r-{next(_numbers)}"
    footprint = Footprint(10, 20, 30, host_bytes=10)
    return EngineOrder(
        replica_id=replica,
        model_id="m",
        served_names=("m",),
        runtime="tiny",
        source=source,
        engine_args={},
        device=Device(),
        budget=Budget(weights_bytes=10, kv_cache_bytes=20, overhead_bytes=30),
        http_path=f"{stage.node.run_dir}/{replica}.http",
        control_path=f"{stage.node.run_dir}/{replica}.ctl",
        log_path=str(stage.home / f"{replica}.log"),
        lease_s=30.0,
        tag=Tag(gpu=stage.node.gpus[1].id, card_hash="h", footprint=footprint).encode(),
    )


async def test_a_node_names_its_gpus_and_says_that_they_are_simulated(stage: Stage) -> None:
    (node,) = await stage.fleet.nodes()
    assert [gpu.memory_bytes for gpu in node.gpus] == [100 << 20, 100 << 20]
    assert all(gpu.simulated and gpu.node == node.id for gpu in node.gpus)


async def test_start_sleep_wake_stop_as_seen_by_observe(stage: Stage) -> None:
    wanted = order(stage)
    replica = ReplicaId(wanted.replica_id)
    status = await stage.fleet.start(stage.node.id, wanted)
    assert (status.state, status.order.replica_id, status.order.tag) == ("ready", replica, wanted.tag)
    assert (await stage.fleet.sleep(replica)).state == "asleep"
    (seen,) = (await stage.fleet.observe())[stage.node.id]
    assert (seen.state, seen.pid) == ("asleep", status.pid)
    assert (await stage.fleet.wake(replica)).state == "ready"
    await stage.fleet.stop(replica)
    assert (await stage.fleet.observe())[stage.node.id] == ()
    await stage.fleet.stop(replica)


async def test_the_engine_gets_the_device_of_the_gpu_it_was_placed_on(stage: Stage) -> None:
    status = await stage.fleet.start(stage.node.id, order(stage))
    assert status.order.device.simulated or status.order.device.kind == "cpu"
    assert Tag.decode(status.order.tag).gpu == stage.node.gpus[1].id


async def test_several_at_once(stage: Stage) -> None:
    statuses = await asyncio.gather(*(stage.fleet.start(stage.node.id, order(stage)) for _ in range(4)))
    assert len({status.pid for status in statuses}) == 4
    assert len((await stage.fleet.observe())[stage.node.id]) == 4


async def test_a_lost_engine_is_reported_with_its_reason(stage: Stage) -> None:
    lost: asyncio.Future[FleetEvent] = asyncio.get_running_loop().create_future()

    async def on_event(event: FleetEvent) -> None:
        lost.set_result(event)

    stage.fleet.subscribe(on_event)
    status = await stage.fleet.start(stage.node.id, order(stage))
    replica = ReplicaId(status.order.replica_id)
    await stage.kill(replica, status.pid)
    event = await asyncio.wait_for(lost, 10)
    assert isinstance(event, ReplicaLost)
    assert event.replica_id == replica
    assert "signal 9" in event.reason
    with pytest.raises(StartFailed):
        await stage.fleet.wake(replica)


async def test_what_was_stopped_on_purpose_is_not_reported(stage: Stage) -> None:
    events: list[FleetEvent] = []

    async def on_event(event: FleetEvent) -> None:
        events.append(event)

    stage.fleet.subscribe(on_event)
    for _ in range(2):
        status = await stage.fleet.start(stage.node.id, order(stage))
        await stage.fleet.stop(ReplicaId(status.order.replica_id))
    assert await stage.fleet.stop_all() == 0
    assert events == []


async def test_a_second_controller_finds_and_adopts_what_runs(stage: Stage) -> None:
    status = await stage.fleet.start(stage.node.id, order(stage))
    second = await stage.open_second()
    (found,) = (await second.observe())[stage.node.id]
    assert (found.pid, found.order) == (status.pid, status.order)
    adopted = await second.adopt(stage.node.id, found)
    assert (adopted.state, adopted.pid) == ("ready", status.pid)
    assert (await second.sleep(ReplicaId(status.order.replica_id))).state == "asleep"


async def test_stop_all_ends_everything(stage: Stage) -> None:
    for _ in range(3):
        await stage.fleet.start(stage.node.id, order(stage))
    assert await stage.fleet.stop_all() == 3
    assert (await stage.fleet.observe())[stage.node.id] == ()


async def test_after_a_later_claim_an_earlier_controller_changes_nothing(stage: Stage) -> None:
    assert await stage.fleet.claim(3) == 0
    status = await stage.fleet.start(stage.node.id, order(stage))
    replica = ReplicaId(status.order.replica_id)
    second = await stage.open_second()
    assert await second.claim(3) == 3, "not a later one: nothing was claimed"
    assert await second.claim(5) == 3
    (found,) = (await second.observe())[stage.node.id]
    await second.adopt(stage.node.id, found)
    for command in (
        stage.fleet.sleep(replica),
        stage.fleet.wake(replica),
        stage.fleet.stop(replica),
        stage.fleet.stop_all(),
        stage.fleet.adopt(stage.node.id, found),
        stage.fleet.start(stage.node.id, order(stage)),
    ):
        with pytest.raises(Superseded) as refused:
            await command
        assert refused.value.epoch == 5
    (seen,) = (await second.observe())[stage.node.id]
    assert (seen.pid, seen.state) == (status.pid, "ready")
    assert (await second.sleep(replica)).state == "asleep"
    await second.stop(replica)
    assert (await second.observe())[stage.node.id] == ()


async def test_a_node_that_does_not_exist_is_named(stage: Stage) -> None:
    with pytest.raises(StartFailed, match="nowhere"):
        await stage.fleet.start(NodeId("nowhere"), order(stage))
