"""Replicas of one device in one process: each with a life of its own, as long as nothing ends the process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.fleet.keeper import EngineKeeper, end_process
from models.runtimes.client import EngineConnection
from models.runtimes.protocol import Device, EngineError
from models.runtimes.torch.shared_process import process_log
from tests.models.runtimes.http_calls import call
from tests.models.runtimes.launchers import is_alive, launcher, short_folder, until_gone
from tests.models.runtimes.orders import order

pytestmark = pytest.mark.anyio

CLASSES = "tests.models.runtimes.bad_classes.models"
MIB = 1 << 20

_numbers = itertools.count(1)


@pytest.fixture
def running(torch_launcher):
    weights = torch_launcher.folder / "model.safetensors"
    if not weights.exists():
        save_file({"a": torch.ones(64 * MIB, dtype=torch.uint8)}, weights)
        (torch_launcher.folder / "config.json").write_text("{}")
    return torch_launcher


class Started:
    def __init__(self, connection):
        self.connection = connection
        self.order = connection.status.order
        self.pid = connection.status.pid

    async def predict(self, inputs):
        return await call(self.order.http_path, f"/v1/predict/{self.order.model_id}", {"inputs": inputs})

    async def output(self, inputs):
        status, answer = await self.predict(inputs)
        assert status == 200, answer
        return answer["output"]

    async def stop(self):
        await self.connection.call("stop")
        await self.connection.closed.wait()

    @property
    def log(self):
        return Path(self.order.log_path).read_text()

    @property
    def process_log(self):
        return Path(process_log(self.order, self.pid)).read_text()


@contextlib.asynccontextmanager
async def replica(running, name="Told", device="gpu-0", **engine_args):
    await running.ready()
    number = next(_numbers)
    ordered = order(
        running.folder,
        f"s{number}",
        source=running.folder,
        runtime="torch",
        model_id=f"m{number}",
        device=Device(id=device, memory_bytes=1 << 30),
        python_class=f"{CLASSES}:{name}",
        process="shared",
        **engine_args,
    )
    connection = await running.start(ordered)
    started = Started(connection)
    try:
        yield started
    finally:
        with contextlib.suppress(EngineError):
            await connection.call("stop")
        await connection.closed.wait()
        await connection.close()


async def test_replicas_of_one_device_share_a_process_and_those_of_another_do_not(running):
    async with (
        replica(running) as first,
        replica(running) as second,
        replica(running, device="gpu-1") as elsewhere,
    ):
        assert first.pid == second.pid != elsewhere.pid
        assert [await one.output("x") for one in (first, second, elsewhere)] == ["x", "x", "x"]
        assert first.connection.status.detail["process"] == "shared"
        assert first.order.http_path != second.order.http_path
    await until_gone(first.pid)
    await until_gone(elsewhere.pid)


async def test_many_that_come_at_once_find_the_same_process(running):
    async with contextlib.AsyncExitStack() as stack:
        started = await asyncio.gather(*(stack.enter_async_context(replica(running)) for _ in range(6)))
        assert len({one.pid for one in started}) == 1
        assert await asyncio.gather(*(one.output(n) for n, one in enumerate(started))) == list(range(6))


async def test_the_end_of_one_leaves_the_others_serving_and_the_last_ends_the_process(running):
    async with replica(running) as stays:
        async with replica(running) as goes:
            pid = goes.pid
            assert await goes.output("x") == "x"
            await goes.stop()
            assert not os.path.exists(goes.order.http_path)
        assert is_alive(pid)
        assert await stays.output("y") == "y"
        async with replica(running) as comes:
            assert comes.pid == pid
    await asyncio.wait_for(until_gone(pid), 20)
    async with replica(running) as later:
        assert later.pid != pid


async def test_a_replica_may_come_again_under_its_own_name(running):
    async with replica(running):
        async with replica(running) as one:
            again = one.order
        connection = await running.start(again)
        assert (await Started(connection).output("x")) == "x"
        with pytest.raises(EngineError, match="is running already"):
            await running.start(again)
        await connection.call("stop")
        await connection.closed.wait()
        await connection.close()


async def test_each_sleeps_and_wakes_by_itself(running):
    async with replica(running) as one, replica(running) as other:
        await one.connection.call("sleep")
        assert (await one.predict("x"))[0] == 503
        assert await other.output("x") == "x"
        await one.connection.call("wake")
        assert await one.output("x") == "x"


async def test_what_python_prints_is_in_the_log_of_its_own_replica(running):
    async with replica(running) as one, replica(running) as other:
        await one.output("print")
        assert "a line on standard output" in one.log
        assert "a line on standard error" in one.log
        assert "a line on standard" not in other.log
        assert (await other.predict("raise"))[0] == 500
        assert "upside down" in other.log
        assert "upside down" not in one.log
        assert "ready: " in one.log
        assert "ready: " in other.log


async def test_a_class_that_cannot_be_loaded_hurts_nobody(running):
    async with replica(running) as one:
        with pytest.raises(EngineError, match="InitRaises could not be made: not today"):
            async with replica(running, "InitRaises"):
                pass
        assert await one.output("x") == "x"


async def test_memory_is_split_so_that_it_adds_up(running):
    async with replica(running, "Holds") as one, replica(running, "Holds") as other:
        both = [(await each.connection.call("status")).measured for each in (one, other)]
        for measured in both:
            assert measured is not None
            assert measured.weights_bytes == 64 * MIB
            assert measured.shared_bytes <= 64 * MIB * 1.1
        alone = both[0]
        await other.stop()
        left = (await one.connection.call("status")).measured
        assert left is not None
        # What both had of the process now belongs to the one that is left.
        assert left.overhead_bytes > 1.5 * alone.overhead_bytes


async def test_a_replica_that_ends_gives_its_memory_back(running):
    async with replica(running, "Told") as stays:
        before = (await stays.connection.call("status")).measured.rss_bytes
        for _ in range(3):
            async with replica(running) as one:
                await one.output("hold")
            after = (await stays.connection.call("status")).measured.rss_bytes
            assert after - before < 50 * MIB  # it held 200 MiB


async def test_whatever_ends_the_process_ends_all_of_them_and_each_is_told_why(running):
    async with replica(running) as one, replica(running) as other:
        with contextlib.suppress(Exception):
            await one.predict("abort")
        for each in (one, other):
            await asyncio.wait_for(each.connection.closed.wait(), 20)
            reason = each.connection.end_reason()
            assert f"the engine's process {one.pid}, shared with 1 other replica, was killed by signal 6" in reason
        assert "Fatal Python error: Aborted" in one.process_log
        async with replica(running) as later:
            assert later.pid != one.pid


async def test_one_that_hangs_ends_all_of_them_for_nothing_else_frees_what_it_holds(running):
    async with replica(running) as other, replica(running, predict_timeout=0.4) as one:
        assert (await one.predict("hang"))[0] == 503
        for each in (one, other):
            await asyncio.wait_for(each.connection.closed.wait(), 20)
            assert each.connection.status.fault == "hang"
        assert one.connection.status.error == "Told.predict has not returned for 0.4 s"
        name = one.order.model_id
        assert other.connection.status.error == (
            f"the process that it shared with {name} is ended, for Told.predict has not returned for 0.4 s"
        )
        await asyncio.wait_for(until_gone(one.pid), 20)


async def test_its_keeper_stops_a_replica_and_never_the_process(running):
    async with replica(running) as stays, replica(running) as goes:
        keeper = EngineKeeper(await EngineConnection.connect(goes.order.control_path))
        await keeper.stop()
        assert not os.path.exists(goes.order.control_path)
        assert is_alive(goes.pid)
        await end_process(goes.connection.status, grace_s=0.0)  # it is gone already
        await end_process(stays.connection.status, grace_s=0.0)  # it is not, and its process has others
        assert await stays.output("x") == "x"


async def test_a_replica_without_an_owner_ends_with_its_lease_alone(running):
    async with replica(running) as stays:
        await running.ready()
        ordered = order(
            running.folder,
            f"s{next(_numbers)}",
            source=running.folder,
            runtime="torch",
            device=Device(id="gpu-0", memory_bytes=1 << 30),
            lease_s=0.5,
            python_class=f"{CLASSES}:Good",
            process="shared",
        )
        connection = await running.start(ordered)
        await asyncio.wait_for(connection.closed.wait(), 20)
        assert await stays.output("x") == "x"


async def test_a_shared_process_outlives_its_launcher():
    with short_folder() as folder, launcher(folder, "torch") as own:
        save_file({"a": torch.ones(4)}, folder / "model.safetensors")
        (folder / "config.json").write_text("{}")
        async with replica(own) as one, replica(own) as other:
            own.process.kill()
            own.process.wait()
            assert [await one.output(1), await other.output(2)] == [1, 2]
            await one.stop()
            assert await other.output(3) == 3
        await asyncio.wait_for(until_gone(one.pid), 20)
