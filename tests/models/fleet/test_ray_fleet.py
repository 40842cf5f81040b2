"""What only real processes can show."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.catalog.gpus import SimulatedGpu
from models.fleet.protocol import FleetEvent, GpuBack, GpuLost, NodeAway, NodeJoined, NodeLook, ReplicaLost, StartFailed
from models.home import Home
from models.runtimes.proc import start_ticks
from models.runtimes.protocol import EngineOrder
from packers.types import NodeId, ReplicaId
from tests.models.fleet.conftest import Stage, _ray_stage
from tests.models.fleet.test_contract import order

pytestmark = pytest.mark.anyio


async def _until(condition, timeout_s: float = 15.0) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_a_failed_load_is_one_sentence_and_leaves_no_process(ray_session: Home) -> None:
    async with _ray_stage(ray_session) as stage:
        with pytest.raises(StartFailed, match=r"^the weights are not there$"):
            await stage.fleet.start(stage.node.id, order(stage, source="broken"))
        assert (await stage.fleet.observe())[stage.node.id] == ()


async def test_a_load_that_never_ends_is_ended_by_whoever_gives_it_up(ray_session: Home) -> None:
    async with _ray_stage(ray_session) as stage:
        wanted = order(stage, source="endless")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await stage.fleet.start(stage.node.id, wanted)
        (loading,) = (await stage.fleet.observe())[stage.node.id]
        assert loading.state == "loading"
        await stage.fleet.stop(ReplicaId(wanted.replica_id))
        assert start_ticks(loading.pid) is None
        assert (await stage.fleet.observe())[stage.node.id] == ()


async def test_engines_outlive_their_keeper_and_are_kept_by_the_next(ray_session: Home) -> None:
    import ray

    async with _ray_stage(ray_session) as stage:
        events: list[FleetEvent] = []

        async def on_event(event: FleetEvent) -> None:
            events.append(event)

        stage.fleet.subscribe(on_event)
        first_status = await stage.fleet.start(stage.node.id, order(stage))
        second_status = await stage.fleet.start(stage.node.id, order(stage))
        replicas = [ReplicaId(status.order.replica_id) for status in (first_status, second_status)]
        first = await _keeper_pid(stage, *replicas)
        os.kill(first, signal.SIGKILL)

        async def replaced() -> bool:
            try:
                return await _keeper_pid(stage, *replicas) != first
            except ray.exceptions.RayError:
                return False

        await _until(replaced)
        found = (await stage.fleet.observe())[stage.node.id]
        assert {status.pid for status in found} == {first_status.pid, second_status.pid}
        assert (await stage.fleet.sleep(replicas[0])).state == "asleep"
        assert [event for event in events if isinstance(event, ReplicaLost)] == []
        os.kill(second_status.pid, signal.SIGKILL)

        async def told() -> bool:
            return bool(events)

        await _until(told)
        assert [event.replica_id for event in events if isinstance(event, ReplicaLost)] == [replicas[1]]


async def test_a_killed_node_actor_comes_back_and_loses_nothing(ray_session: Home) -> None:
    async with _ray_stage(ray_session) as stage:
        events: list[FleetEvent] = []

        async def on_event(event: FleetEvent) -> None:
            events.append(event)

        stage.fleet.subscribe(on_event)
        status = await stage.fleet.start(stage.node.id, order(stage))
        replica = ReplicaId(status.order.replica_id)
        await _keeper_pid(stage, replica)
        os.kill(await _node_pid(stage), signal.SIGKILL)

        async def answers() -> bool:
            return len((await stage.fleet.observe()).get(stage.node.id, ())) == 1

        await _until(answers)
        assert (await stage.fleet.sleep(replica)).pid == status.pid
        assert (await stage.fleet.start(stage.node.id, order(stage))).state == "ready"
        # A busy machine takes so long to start it again that the node is away meanwhile.
        assert {type(event) for event in events} <= {NodeAway, NodeJoined}


async def test_faults_of_starts_and_wakes_come_through_and_a_cold_start_takes_the_same_name(ray_session: Home) -> None:
    async with _ray_stage(ray_session) as stage:
        events: list[FleetEvent] = []

        async def on_event(event: FleetEvent) -> None:
            events.append(event)

        stage.fleet.subscribe(on_event)
        with pytest.raises(StartFailed) as refused:
            await stage.fleet.start(stage.node.id, order(stage, source="broken"))
        assert refused.value.fault == "weights"
        for source in ("spoilt", "wakes-wrong"):
            wanted = order(stage, source=source)
            replica = ReplicaId(wanted.replica_id)
            with pytest.raises(StartFailed) as failed:
                await _through_a_sleep(stage, wanted)
            assert failed.value.fault == "canary"
            await stage.fleet.stop(replica)
            status = await stage.fleet.start(stage.node.id, msgspec.structs.replace(wanted, cold=True))
            assert (await stage.fleet.sleep(replica)).pid == status.pid
            assert (await stage.fleet.wake(replica)).pid == status.pid
        assert len((await stage.fleet.observe())[stage.node.id]) == 2
        assert events == [], "nobody takes the new engine for the one that is gone"


async def _through_a_sleep(stage: Stage, wanted: EngineOrder) -> None:
    replica = ReplicaId(wanted.replica_id)
    await stage.fleet.start(stage.node.id, wanted)
    await stage.fleet.sleep(replica)
    await stage.fleet.wake(replica)


async def test_what_engines_hold_and_where_weights_are_is_measured_on_the_node(
    ray_session: Home, tmp_path: Path
) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(1 << 20))
    async with _ray_stage(ray_session) as stage:
        status = await stage.fleet.start(stage.node.id, order(stage))
        gone = str(stage.home / "nobody.ctl")
        asked = NodeLook(engines=(status.order.control_path, gone), sources={"m": str(tmp_path), "n": "/nowhere"})
        view = (await stage.fleet.look({stage.node.id: asked}))[stage.node.id]
        (found,) = view.engines
        assert found.pid == status.pid
        assert found.measured is not None
        assert found.measured.kv_cache_bytes == 2
        assert view.tiers["m"] in ("page_cache", "disk")
        assert view.tiers["n"] == "remote"
        assert view.used_bytes == {}, "simulated GPUs have no driver"


def _incarnation(stage: Stage) -> Any:
    fleet: Any = stage.fleet
    return fleet._nodes[stage.node.id]._now


async def _node_pid(stage: Stage) -> int:
    return int(await _incarnation(stage).actor.pid.remote())


async def _keeper_pid(stage: Stage, *replicas: ReplicaId) -> int:
    """Of the actor that keeps these replicas, once it has taken them over."""
    fleet: Any = stage.fleet

    async def taken_over() -> bool:
        return all(replica in fleet._kept for replica in replicas)

    await _until(taken_over)
    return int(await _incarnation(stage).keeper.pid.remote())


async def test_stop_ends_an_engine_that_no_longer_listens(ray_session: Home) -> None:
    async with _ray_stage(ray_session) as stage:
        status = await stage.fleet.start(stage.node.id, order(stage))
        os.kill(status.pid, signal.SIGSTOP)
        await stage.fleet.stop(ReplicaId(status.order.replica_id))
        assert start_ticks(status.pid) is None


async def test_without_a_launcher_a_start_says_so(
    ray_session: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from models.fleet import node_actor
    from models.fleet.node_actor import NodeActor
    from models.fleet.node_place import NodeSettings
    from models.runtimes.protocol import EngineError

    monkeypatch.setattr(node_actor, "LAUNCHER_WAIT_S", 0.2)
    nowhere = NodeSettings(node=NodeId("n"), home=str(tmp_path), simulated=(SimulatedGpu(1 << 30),), host_bytes=1)
    async with _ray_stage(ray_session) as stage:
        actor = NodeActor(nowhere)
        with pytest.raises(EngineError, match="launcher of this node is not running"):
            await actor.start(0, order(stage), "n/gpu-0")


async def test_a_start_that_is_asked_for_twice_is_one_start(ray_session: Home) -> None:
    async with _ray_stage(ray_session) as stage:
        wanted = order(stage)
        gpu = str(stage.node.gpus[0].id)
        actor = _incarnation(stage).actor
        first, second = await asyncio.gather(*(actor.start.remote(0, wanted, gpu) for _ in range(2)))
        assert first.pid == second.pid
        again = await actor.start.remote(0, wanted, gpu)  # the answer was lost
        assert again.pid == first.pid
        assert len((await stage.fleet.observe())[stage.node.id]) == 1


async def test_a_start_whose_node_actor_dies_is_finished_by_the_next_one(ray_session: Home) -> None:
    async with _ray_stage(ray_session) as stage:
        wanted = order(stage, source="slow")
        starting = asyncio.ensure_future(stage.fleet.start(stage.node.id, wanted))

        async def loading() -> bool:
            return bool((await stage.fleet.observe()).get(stage.node.id))

        await _until(loading)
        (engine,) = (await stage.fleet.observe())[stage.node.id]
        os.kill(await _node_pid(stage), signal.SIGKILL)
        status = await starting
        assert (status.state, status.pid) == ("ready", engine.pid)


async def test_an_abandoned_start_is_ended_also_by_a_node_actor_that_has_not_begun_it(ray_session: Home) -> None:
    async with _ray_stage(ray_session) as stage:
        wanted = order(stage, source="endless")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await stage.fleet.start(stage.node.id, wanted)
        (loading,) = (await stage.fleet.observe())[stage.node.id]
        del stage.fleet._status[ReplicaId(wanted.replica_id)]  # type: ignore[attr-defined]
        os.kill(await _node_pid(stage), signal.SIGKILL)
        await stage.fleet.stop(ReplicaId(wanted.replica_id))
        assert start_ticks(loading.pid) is None


async def test_an_engine_is_not_started_on_a_gpu_that_is_lost(ray_session: Home) -> None:
    async with _ray_stage(ray_session) as stage:
        heard: list[FleetEvent] = []

        async def on_event(event: FleetEvent) -> None:
            if isinstance(event, GpuLost | GpuBack):
                heard.append(event)

        stage.fleet.subscribe(on_event)
        ray_session.lost_gpus.write_text("1 Xid 79: it has fallen off the bus\n")
        try:
            await _until_true(lambda: bool(heard))
            with pytest.raises(StartFailed, match=r"gpu-1 is lost: Xid 79") as refused:
                await stage.fleet.start(stage.node.id, order(stage))
            assert refused.value.fault == "memory"
        finally:
            ray_session.lost_gpus.unlink()
        await _until_true(lambda: len(heard) == 2)
        assert heard == [
            GpuLost(gpu=stage.node.gpus[1].id, reason="Xid 79: it has fallen off the bus"),
            GpuBack(gpu=stage.node.gpus[1].id),
        ]
        assert (await stage.fleet.start(stage.node.id, order(stage))).state == "ready"


async def _until_true(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_controller_does_not_wait_for_a_node_that_does_not_answer(
    ray_session: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.fleet import ray_fleet
    from models.fleet.ray_actors import RayEntry, ray_table

    silent = RayEntry("f" * 56, NodeId("silent"), alive=True)
    monkeypatch.setattr(ray_fleet, "ray_table", lambda: (silent, *ray_table()))
    monkeypatch.setattr(ray_fleet, "OPEN_OTHERS_S", 0.2)
    async with asyncio.timeout(30):
        async with _ray_stage(ray_session) as stage:
            assert [node.id for node in await stage.fleet.nodes()] == [stage.node.id]
            assert list(await stage.fleet.observe()) == [stage.node.id]
            with pytest.raises(StartFailed, match="silent does not answer"):
                await stage.fleet.start(NodeId("silent"), order(stage))
            assert (await stage.fleet.start(stage.node.id, order(stage))).state == "ready"


async def test_a_fleet_without_a_usable_node_says_what_is_wrong_with_each(ray_session: Home) -> None:
    from models.fleet.ray_actors import kill_actor
    from models.fleet.ray_fleet import NoNodes, RayFleet

    for handle in _actors():
        kill_actor(handle)
    file = ray_session.node_file
    file.write_text('{"name": "n", "gpus": "two big ones"}')
    fleet = RayFleet(str(ray_session.root), None, None)
    try:
        with pytest.raises(NoNodes, match=r"its actor could not start: .*UnusableNode: .*'two big ones'.*join"):
            await fleet.open()
    finally:
        await fleet.close()
        file.unlink()


def _actors() -> list[Any]:
    import ray

    from models.fleet.ray_actors import NAMESPACE, actor_names

    return [ray.get_actor(name, namespace=NAMESPACE) for name in actor_names()]
