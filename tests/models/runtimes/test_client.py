"""Owners' side of the wires, against peers that behave badly."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import msgspec
import pytest

from models.runtimes import wire
from models.runtimes.client import EngineConnection, LauncherClient, doing, scan
from models.runtimes.protocol import EngineError, EngineReply, EngineStatus, ExitReport, exit_path
from models.runtimes.sockets import bind_private
from tests.models.runtimes.launchers import short_folder
from tests.models.runtimes.orders import order

pytestmark = pytest.mark.anyio


@pytest.fixture
def folder():
    with short_folder() as made:
        yield made


@contextlib.asynccontextmanager
async def peer(path, behave):
    """A unix socket server that does ``behave(reader, writer)`` with each connection."""

    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError):
            await behave(reader, writer)
        writer.close()

    server = await asyncio.start_unix_server(serve, str(path))
    yield
    server.close()


def greeting(folder, **changes):
    return wire.encode(EngineStatus(**{"state": "ready", "pid": 1, "order": order(folder), **changes}))


async def test_a_silent_launcher_is_a_timeout(folder):
    async def silent(reader, writer):
        await reader.read()

    async with peer(folder / "l", silent):
        with pytest.raises(TimeoutError):
            await LauncherClient(folder / "l").ping(timeout_s=0.05)


@pytest.mark.parametrize("said", [b"", b'{"state": "rea', b'{"refused": "full"}\n'])
async def test_an_order_that_gets_no_engine_is_an_error(folder, said):
    async def behave(reader, writer):
        await reader.readline()
        writer.write(said)

    async with peer(folder / "l", behave):
        with pytest.raises(EngineError, match=r"full|hung up"):
            await LauncherClient(folder / "l").start(order(folder))


async def test_a_child_that_dies_before_it_can_speak_is_explained(folder):
    ordered = order(folder)
    stale = ExitReport(pid=1, replica_id="r1", signal=6)
    Path(exit_path(ordered.control_path)).write_bytes(msgspec.json.encode(stale))

    async def behave(reader, writer):
        await reader.readline()
        writer.close()
        await asyncio.sleep(0.02)
        report = ExitReport(pid=2, replica_id="r1", signal=11)
        Path(exit_path(ordered.control_path)).write_bytes(msgspec.json.encode(report))

    async with peer(folder / "l", behave):
        with pytest.raises(EngineError, match=r"killed by signal 11 \(Segmentation fault\) before it could load"):
            await LauncherClient(folder / "l").start(ordered)


async def test_whoever_condemns_an_engine_says_why_it_ended(folder):
    async def behave(reader, writer):
        writer.write(greeting(folder))
        await reader.readline()

    async with peer(folder / "e.ctl", behave):
        engine = await EngineConnection.connect(folder / "e.ctl")
        engine.condemn("it did not answer for 15 s", "hang")
        with pytest.raises(EngineError, match="it did not answer for 15 s") as told:
            await engine.call("renew")
        assert told.value.fault == "hang"
        await engine.closed.wait()
        assert engine.end().fault == "hang"


async def test_want_of_memory_is_a_fault_of_its_own(folder):
    async def behave(reader, writer):
        writer.write(greeting(folder, state="loading"))
        report = ExitReport(pid=1, replica_id="r1", signal=9, out_of_memory=True)
        Path(exit_path(order(folder).control_path)).write_bytes(msgspec.json.encode(report))

    async with peer(folder / "e.ctl", behave):
        engine = await EngineConnection.connect(folder / "e.ctl")
        with pytest.raises(EngineError) as told:
            await engine.wait_ready()
        assert told.value.fault == "memory"


@pytest.mark.parametrize(
    ("state", "asked", "said"),
    [
        ("loading", (), "while it loaded"),
        ("ready", (), "while it served"),
        ("ready", ("renew", "sleep"), "while it fell asleep"),
        ("asleep", (), "while it slept"),
        ("asleep", ("wake",), "while it woke"),
        ("failed", (), ""),
    ],
)
def test_what_it_was_doing_has_a_name(state, asked, said):
    assert doing(state, asked) == said


async def test_a_silent_engine_cannot_be_adopted(folder):
    async def silent(reader, writer):
        await reader.read()

    async with peer(folder / "e.ctl", silent):
        with pytest.raises(TimeoutError):
            await EngineConnection.connect(folder / "e.ctl", timeout_s=0.05)


async def test_an_engine_that_hangs_up_at_once_is_gone(folder):
    async def rude(reader, writer):
        pass

    async with peer(folder / "e.ctl", rude):
        with pytest.raises(OSError, match="hung up"):
            await EngineConnection.connect(folder / "e.ctl")


async def test_a_stopped_engine_times_a_call_out_and_the_next_may_succeed(folder):
    asked = []

    async def behave(reader, writer):
        writer.write(greeting(folder))
        while line := await reader.readline():
            request = wire.decode_control(line)
            asked.append(request.op)
            if len(asked) > 1:
                status = EngineStatus(state="ready", pid=1, order=order(folder))
                writer.write(wire.encode(EngineReply(seq=request.seq, ok=True, status=status)))

    async with peer(folder / "e.ctl", behave):
        engine = await EngineConnection.connect(folder / "e.ctl")
        with pytest.raises(TimeoutError):
            await engine.call("renew", timeout_s=0.05)
        assert (await engine.call("renew", timeout_s=5)).state == "ready"
        await engine.close()


async def test_calls_that_wait_are_told_when_the_engine_dies(folder):
    async def behave(reader, writer):
        writer.write(greeting(folder))
        await reader.readline()

    async with peer(folder / "e.ctl", behave):
        engine = await EngineConnection.connect(folder / "e.ctl")
        with pytest.raises(EngineError, match="process 1 ended"):
            await engine.call("sleep")
        with pytest.raises(EngineError, match="process 1 ended"):
            await engine.wait_ready()


async def test_the_reason_waits_for_the_launchers_report(folder):
    async def behave(reader, writer):
        writer.write(greeting(folder, state="loading"))

    async with peer(folder / "e.ctl", behave):
        engine = await EngineConnection.connect(folder / "e.ctl")
        waiting = asyncio.create_task(engine.wait_ready())
        await asyncio.sleep(0.02)
        report = ExitReport(pid=1, replica_id="r1", signal=11)
        Path(exit_path(engine.status.order.control_path)).write_bytes(msgspec.json.encode(report))
        with pytest.raises(EngineError, match="killed by signal 11"):
            await waiting


async def test_an_older_engines_report_is_not_taken_for_this_ones(folder):
    async def behave(reader, writer):
        writer.write(greeting(folder, state="loading"))

    async with peer(folder / "e.ctl", behave):
        engine = await EngineConnection.connect(folder / "e.ctl")
        report = ExitReport(pid=999, replica_id="r1", signal=11)
        Path(exit_path(engine.status.order.control_path)).write_bytes(msgspec.json.encode(report))
        with pytest.raises(EngineError, match="process 1 ended"):
            await engine.wait_ready()


async def test_garbage_closes_the_connection(folder):
    async def behave(reader, writer):
        writer.write(greeting(folder) + b"\x00\x01garbage\n")
        await reader.read()

    async with peer(folder / "e.ctl", behave):
        engine = await EngineConnection.connect(folder / "e.ctl")
        await asyncio.wait_for(engine.closed.wait(), 5)


async def test_a_scan_of_no_folder_finds_nothing(folder):
    assert await scan(folder / "none") == []


async def test_a_scan_removes_the_sockets_of_the_dead_and_leaves_the_silent_alone(folder, monkeypatch):
    monkeypatch.setattr("models.runtimes.client.GREETING_TIMEOUT_S", 0.05)

    async def silent(reader, writer):
        await reader.read()

    for name in ("dead.ctl", "dead.http"):
        bind_private(str(folder / name)).close()
    async with peer(folder / "silent.ctl", silent):
        assert await scan(folder) == []
        assert [path.name for path in folder.iterdir()] == ["silent.ctl"]
