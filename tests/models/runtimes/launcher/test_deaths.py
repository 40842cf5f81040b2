"""Engines that really die, in every phase of their lives, under a real launcher: what their owners are told."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from pathlib import Path

import aiohttp
import msgspec
import pytest

from models.runtimes.host.exits import read_exit_report
from models.runtimes.protocol import EngineError
from tests.models.runtimes.fake_runtime import NAME
from tests.models.runtimes.http_calls import call
from tests.models.runtimes.launchers import launcher, short_folder
from tests.models.runtimes.orders import order

pytestmark = pytest.mark.anyio
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def running():
    with short_folder() as folder, launcher(folder, f"{NAME}:make") as started:
        yield started


@contextlib.asynccontextmanager
async def ordered(running, **engine_args):
    """An engine from its first word on, whatever becomes of it."""
    await running.ready()
    connection = await running.client.start(order(running.folder, f"d{next(_numbers)}", **engine_args))
    try:
        yield connection
    finally:
        with contextlib.suppress(EngineError):
            await connection.call("stop", drain_s=0.0)
        await connection.closed.wait()
        await connection.close()


async def until_ended(connection):
    await asyncio.wait_for(connection.closed.wait(), 20)
    report = read_exit_report(connection.status.order.control_path)
    assert report is not None
    return connection.end_reason(), report, Path(connection.status.order.log_path).read_text()


async def test_a_segmentation_fault_while_it_loads_names_the_function(running):
    async with ordered(running, dies_while_loading="segfault", say="reading layer 7") as engine:
        with pytest.raises(EngineError) as told:
            await engine.wait_ready()
        reason, report, log = await until_ended(engine)
        assert str(told.value) == reason
        assert "was killed by signal 11 (Segmentation fault) while it loaded" in reason
        assert "native code touched memory that it does not own" in reason
        assert ", called by perhaps_die (fake_runtime.py:" in reason
        assert reason.endswith("it last said: reading layer 7")
        assert "\n" not in reason
        assert "Fatal Python error: Segmentation fault" in log
        assert report.log_tail
        assert "killed by signal 11" in log.splitlines()[-1]
        assert "core" in log.splitlines()[-1]


async def test_an_abort_while_it_serves(running):
    async with ordered(running, dies_while_serving="abort") as engine:
        await engine.wait_ready()
        with contextlib.suppress(aiohttp.ClientError):
            await call(engine.status.order.http_path, "/die")
        reason, _, _ = await until_ended(engine)
        assert "was killed by signal 6 (Aborted) while it served, a library gave up" in reason


async def test_a_file_that_shrinks_under_a_waking_engine(running):
    async with ordered(running, dies_while_waking="shrunk file") as engine:
        await engine.wait_ready()
        await engine.call("sleep")
        with pytest.raises(EngineError, match="while it woke, a file that it had mapped became shorter"):
            await engine.call("wake")


async def test_falling_asleep_for_ever(running):
    async with ordered(running, dies_while_falling_asleep="segfault") as engine:
        await engine.wait_ready()
        with pytest.raises(EngineError, match=r"signal 11 .* while it fell asleep"):
            await engine.call("sleep")


async def test_killed_in_its_sleep(running):
    async with ordered(running) as engine:
        await engine.wait_ready()
        await engine.call("sleep")
        os.kill(engine.status.pid, signal.SIGKILL)
        reason, _, log = await until_ended(engine)
        assert "was killed by signal 9 (Killed) while it slept, sent by another process" in reason
        assert not Path(engine.status.order.control_path).exists()
        assert not Path(engine.status.order.http_path).exists()
        assert "ERROR roundhouse.launcher: the engine's process" in log.splitlines()[-1]


async def test_without_a_place_for_its_log_it_says_so_before_it_loads(running):
    in_the_way = running.folder / "a file"
    in_the_way.write_text("")
    await running.ready()
    wanted = msgspec.structs.replace(order(running.folder, "nolog"), log_path=str(in_the_way / "r.log"))
    with pytest.raises(EngineError, match="the engine's log cannot be written: "):
        await running.start(wanted)
