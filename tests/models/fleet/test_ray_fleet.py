"""What only real processes can show."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from models.fleet.keeper import process_start_ticks
from models.fleet.protocol import FleetEvent, StartFailed
from models.home import Home
from packers.types import ReplicaId
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


async def test_an_engine_outlives_its_replica_actor_and_gets_a_new_one(ray_session: Home) -> None:
    import ray

    async with _ray_stage(ray_session) as stage:
        status = await stage.fleet.start(stage.node.id, order(stage))
        replica = ReplicaId(status.order.replica_id)
        first = await _actor_pid(replica)
        os.kill(first, signal.SIGKILL)

        async def replaced() -> bool:
            try:
                return await _actor_pid(replica) != first
            except (ray.exceptions.RayError, ValueError):
                return False

        await _until(replaced)
        (found,) = (await stage.fleet.observe())[stage.node.id]
        assert found.pid == status.pid
        assert (await stage.fleet.sleep(replica)).state == "asleep"


async def test_a_killed_node_actor_comes_back_and_loses_nothing(ray_session: Home) -> None:
    async with _ray_stage(ray_session) as stage:
        events: list[FleetEvent] = []

        async def on_event(event: FleetEvent) -> None:
            events.append(event)

        stage.fleet.subscribe(on_event)
        status = await stage.fleet.start(stage.node.id, order(stage))
        replica = ReplicaId(status.order.replica_id)
        await _actor_pid(replica)
        os.kill(await _node_pid(stage), signal.SIGKILL)

        async def answers() -> bool:
            return len((await stage.fleet.observe()).get(stage.node.id, ())) == 1

        await _until(answers)
        assert (await stage.fleet.sleep(replica)).pid == status.pid
        assert (await stage.fleet.start(stage.node.id, order(stage))).state == "ready"
        assert events == []


async def _node_pid(stage: Stage) -> int:
    import ray

    return int(await ray.get_actor(f"node-{stage.node.id}", namespace="roundhouse").pid.remote())


async def _actor_pid(replica: ReplicaId) -> int:
    import ray

    while True:
        try:
            return int(await ray.get_actor(f"replica-{replica}", namespace="roundhouse").pid.remote())
        except ValueError:  # its actor is made after the engine is ready
            await asyncio.sleep(0.02)


async def test_stop_ends_an_engine_that_no_longer_listens(ray_session: Home) -> None:
    async with _ray_stage(ray_session) as stage:
        status = await stage.fleet.start(stage.node.id, order(stage))
        os.kill(status.pid, signal.SIGSTOP)
        await stage.fleet.stop(ReplicaId(status.order.replica_id))
        assert process_start_ticks(status.pid) is None


async def test_without_a_launcher_a_start_says_so(ray_session: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.fleet import node_actor
    from models.fleet.node_actor import NodeActor, NodeSettings
    from models.runtimes.protocol import EngineError
    from packers.types import NodeId

    monkeypatch.setattr(node_actor, "LAUNCHER_WAIT_S", 0.2)
    nowhere = NodeSettings(node=NodeId("n"), home="/nowhere", simulated_bytes=(1 << 30,), host_bytes=1)
    async with _ray_stage(ray_session) as stage:
        actor = NodeActor(nowhere)
        with pytest.raises(EngineError, match="launcher of this node is not running"):
            await actor.start(order(stage), "n/gpu-0")
