"""The owner of an engine against engines that hang, refuse and cut; each a real process with a socket of the test's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time

import pytest

from models.fleet import keeper as keeper_module
from models.fleet import pulse as pulse_module
from models.fleet.keeper import EngineKeeper, end_process
from models.runtimes import proc, wire
from models.runtimes.client import EngineConnection
from models.runtimes.proc import start_ticks
from models.runtimes.protocol import EngineError, EngineReply, EngineStatus
from tests.models.runtimes.launchers import short_folder
from tests.models.runtimes.orders import order

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(pulse_module, "BEAT_EVERY_S", 0.01)
    monkeypatch.setattr(pulse_module, "LISTEN_S", 0.02)
    monkeypatch.setattr(keeper_module, "SILENT_AFTER_S", 0.2)
    monkeypatch.setattr(keeper_module, "CHANGING_SILENT_AFTER_S", 0.6)
    monkeypatch.setattr(keeper_module, "STOP_GRACE_S", 0.1)


class Engine:
    """What answers on the control socket. ``deaf``: operations that it does not answer."""

    def __init__(self, folder, process, state):
        self.status = EngineStatus(state=state, pid=process.pid, order=order(folder))
        self.process = process
        self.deaf = set()
        self.asked = []
        self.cut = 0

    async def serve(self, reader, writer):
        writer.write(wire.encode(self.status))
        while line := await reader.readline():
            request = wire.decode_control(line)
            self.asked.append(request)
            if "all" not in self.deaf and request.op not in self.deaf:
                reply = EngineReply(seq=request.seq, ok=True, status=self.status, cut=self.cut)
                writer.write(wire.encode(reply))


def sleeper():
    """A process that does nothing, and has no handlers."""
    return subprocess.Popen(["/bin/sleep", "600"], start_new_session=True)


@contextlib.asynccontextmanager
async def kept(state="ready"):
    """An engine and its keeper."""
    with short_folder() as folder, sleeper() as process:
        engine = Engine(folder, process, state)
        writers = []

        async def serve(reader, writer):
            writers.append(writer)
            with contextlib.suppress(ConnectionError):
                await engine.serve(reader, writer)

        async def hang_up_with_the_process():
            await asyncio.to_thread(process.wait)
            for writer in writers:
                writer.close()

        server = await asyncio.start_unix_server(serve, engine.status.order.control_path)
        dying = asyncio.create_task(hang_up_with_the_process())
        keeper = EngineKeeper(await EngineConnection.connect(engine.status.order.control_path))
        try:
            yield engine, keeper
        finally:
            await keeper.release()
            process.kill()
            await dying
            server.close()


async def test_a_lease_is_renewed_again_and_again():
    async with kept() as (engine, _):
        async with asyncio.timeout(5):
            while len(engine.asked) < 5:
                await asyncio.sleep(0.01)
        assert {request.op for request in engine.asked} == {"renew"}


async def test_an_engine_that_does_not_answer_is_ended_and_the_reason_says_so():
    async with kept() as (engine, keeper):
        engine.deaf.add("all")
        reason = await asyncio.wait_for(keeper.watch(), 10)
        assert reason == "the engine did not answer for 0 s"
        assert keeper.fault == "hang"
        assert start_ticks(engine.process.pid) is None


async def test_a_stopped_process_is_called_that():
    async with kept() as (engine, keeper):
        engine.process.send_signal(signal.SIGSTOP)
        engine.deaf.add("all")
        reason = await asyncio.wait_for(keeper.watch(), 10)
        assert reason is not None
        assert reason.endswith(": its process is stopped")


async def test_before_it_is_given_up_it_is_asked_for_its_stacks(monkeypatch):
    sent = []
    monkeypatch.setattr(proc, "catches", lambda pid, number: True)
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append(number))
    async with kept() as (engine, keeper):
        engine.deaf.add("all")
        async with asyncio.timeout(5):
            while signal.SIGKILL not in sent:
                await asyncio.sleep(0.01)
        assert sent[0] == signal.SIGUSR2
        monkeypatch.undo()
        engine.process.kill()
        await keeper.watch()


async def test_a_loading_engine_is_not_hurried():
    async with kept("loading") as (engine, keeper):
        engine.deaf.add("all")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(keeper.watch(), 0.5)
        assert start_ticks(engine.process.pid) is not None


async def test_waking_it_may_be_silent_for_longer_but_not_for_ever():
    async with kept("asleep") as (engine, keeper):
        engine.deaf |= {"all"}
        began_s = time.monotonic()
        with pytest.raises(EngineError, match="did not answer for") as told:
            await asyncio.wait_for(keeper.wake(), 10)
        assert told.value.fault == "hang"
        assert time.monotonic() - began_s > 0.5


@pytest.mark.parametrize("verb", ["sleep", "wake"])
async def test_one_that_was_stopped_while_it_changes_is_not_waited_for_as_if_it_moved_memory(monkeypatch, verb):
    monkeypatch.setattr(keeper_module, "CHANGING_SILENT_AFTER_S", 3600.0)
    async with kept() as (engine, keeper):
        engine.deaf.add("all")
        changing = asyncio.ensure_future(getattr(keeper, verb)())
        engine.process.send_signal(signal.SIGSTOP)
        reason = await asyncio.wait_for(keeper.watch(), 10)
        assert reason is not None
        assert "its process is stopped" in reason
        with pytest.raises(EngineError):
            await changing


async def test_one_that_was_stopped_while_it_loads_is_ended():
    async with kept(state="loading") as (engine, keeper):
        engine.deaf.add("all")
        engine.process.send_signal(signal.SIGSTOP)
        assert "its process is stopped" in (await asyncio.wait_for(keeper.watch(), 10) or "")


async def test_a_wake_that_never_ends_is_given_up_though_the_engine_answers(monkeypatch):
    monkeypatch.setattr(keeper_module, "CHANGE_TIMEOUT_S", 0.1)
    async with kept("asleep") as (engine, keeper):
        engine.deaf.add("wake")
        with pytest.raises(EngineError, match="the engine did not wake within 0 s") as told:
            await keeper.wake()
        assert told.value.fault == "hang"


async def test_a_stop_gives_requests_time_and_reports_those_that_were_cut(caplog):
    async with kept() as (engine, keeper):
        engine.cut = 3
        await keeper.stop(drain_s=2.5)
        (asked,) = (request for request in engine.asked if request.op == "stop")
        assert asked.drain_s == 2.5
        assert "3 requests were cut after draining" in caplog.text
        assert await keeper.watch() is None


async def test_an_engine_that_ignores_a_stop_is_killed():
    async with kept() as (engine, keeper):
        engine.deaf.add("all")
        await asyncio.wait_for(keeper.stop(drain_s=0.0), 10)
        assert start_ticks(engine.process.pid) is None


async def test_a_process_is_given_its_time_and_then_killed(tmp_path):
    with sleeper() as process:
        status = EngineStatus(state="ready", pid=process.pid, order=order(tmp_path))
        await end_process(status, 0.02)
        assert process.wait(5) == -signal.SIGKILL
    await end_process(status, 60.0)  # one that is gone is not waited for
