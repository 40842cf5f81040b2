"""The process that replicas share, in this one: hosts come by its channel, go one by one, or all at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time

import aiohttp
import msgspec
import pytest

from models.runtimes.client import EngineConnection
from models.runtimes.host.exits import read_exit_report
from models.runtimes.launcher.handover import Handed, hand_over
from models.runtimes.protocol import KEY_HEADER, EngineError
from models.runtimes.torch.shared_host import SharedHost
from models.runtimes.torch.shared_process import LONGEST_NOTE_BYTES, read_note
from tests.models.runtimes.fake_runtime import FakeRuntime
from tests.models.runtimes.launchers import short_folder
from tests.models.runtimes.orders import order as order_in

pytestmark = pytest.mark.anyio


class Desk:
    """A launcher's end of the channel, and a leak that the test springs."""

    def __init__(self, folder):
        self.folder = folder
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.setblocking(False)
        self.leak = asyncio.Event()
        self.reserved = []
        self.host = SharedHost(FakeRuntime(), theirs, self.outgrown)
        self.running = None

    async def outgrown(self, reserved):
        self.reserved.append(reserved)
        await self.leak.wait()
        return "the memory has grown"

    async def start(self, name, tcp_host="", **engine_args):
        ordered = order_in(self.folder, name, model_id=name, **engine_args)
        key_path = str(self.folder / "key") if tcp_host else ""
        ordered = msgspec.structs.replace(ordered, tcp_host=tcp_host, tcp_key_path=key_path)
        ours, theirs = socket.socketpair()
        if self.running is None:
            self.running = asyncio.create_task(self.host.run(Handed(ordered, theirs, time.monotonic())))
        else:
            hand_over(self.channel, ordered, theirs, time.monotonic())
            theirs.close()
        ours.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        return await EngineConnection.greet(reader, writer)

    async def ready(self, name, **engine_args):
        connection = await self.start(name, **engine_args)
        await connection.wait_ready()
        return connection

    def notes(self):
        found = []
        with contextlib.suppress(BlockingIOError):
            while message := self.channel.recv(LONGEST_NOTE_BYTES):
                note = read_note(message)
                assert note is not None
                found.append((note[0], os.path.basename(note[1])))
        return found


@pytest.fixture
async def desk():
    with short_folder() as folder:
        made = Desk(folder)
        yield made
        made.channel.close()
        if made.running is not None:
            await asyncio.wait_for(made.running, 10)


async def end(connection):
    await connection.call("stop")
    await connection.closed.wait()
    await connection.close()


async def test_it_ends_with_its_last_replica(desk):
    first, second = await desk.ready("a"), await desk.ready("b")
    assert first.status.pid == second.status.pid == os.getpid()
    await end(first)
    assert not desk.running.done()
    await end(second)
    assert await desk.running == 0
    report = read_exit_report(first.status.order.control_path)
    assert report is not None
    assert report.code == 0
    assert desk.notes() == [
        ("greeted", "a.ctl"),
        ("greeted", "b.ctl"),
        ("ended", "a.ctl"),
        ("ended", "b.ctl"),
    ]


async def test_each_replica_has_a_port_of_its_own_for_other_nodes(desk):
    (desk.folder / "key").write_text("k" * 64)
    first, second = [await desk.ready(name, tcp_host="127.0.0.1") for name in "ab"]
    assert first.status.tcp_port != second.status.tcp_port
    async with aiohttp.ClientSession(headers={KEY_HEADER: "k" * 64}) as session:
        for one, name in ((first, "a"), (second, "b")):
            answer = await session.post(f"http://127.0.0.1:{one.status.tcp_port}/echo", json=[1])
            assert (await answer.json(content_type=None))["model"] == name
        await end(first)
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.post(f"http://127.0.0.1:{first.status.tcp_port}/echo", json=[1])
        answer = await session.post(f"http://127.0.0.1:{second.status.tcp_port}/echo", json=[1])
        assert answer.status == 200
    await end(second)


async def test_it_takes_no_second_replica_of_one_name(desk):
    first = await desk.ready("a")
    with pytest.raises(EngineError, match="replica a is running already"):
        await desk.ready("a")
    await end(first)


async def test_one_that_fails_to_load_is_told_and_the_others_go_on(desk):
    first = await desk.ready("a")
    with pytest.raises(EngineError, match="no such layer"):
        await desk.ready("b", fails="no such layer")
    assert (await first.call("status")).state == "ready"
    assert ("ended", "b.ctl") in desk.notes()
    await end(first)


async def test_a_log_that_cannot_be_written_is_told(desk):
    first = await desk.ready("a")
    (desk.folder / "logs" / "b.log").mkdir()
    with pytest.raises(EngineError, match="the engine's log cannot be written"):
        await desk.ready("b")
    await end(first)


async def test_when_all_together_hold_too_much_all_are_lost(desk):
    both = [await desk.ready("a"), await desk.ready("b")]
    desk.leak.set()
    for connection in both:
        await connection.closed.wait()
        assert connection.status.fault == "memory"
        assert connection.status.error == "in a process shared by 2 replicas, the memory has grown"
        await connection.close()
    assert await desk.running == 0


async def test_what_is_reserved_is_added_up(desk):
    both = [await desk.ready("a"), await desk.ready("b")]
    for connection in both:
        await end(connection)
    await desk.running
    mib = [reserved >> 20 for reserved in desk.reserved]
    assert mib[0] == 16
    assert 32 in mib


async def test_without_a_launcher_it_goes_on(desk):
    first = await desk.ready("a")
    desk.channel.close()
    assert (await first.call("renew")).state == "ready"
    await end(first)
    assert await desk.running == 0


async def test_a_signal_winds_all_down(desk):
    both = [await desk.ready("a"), await desk.ready("b")]
    desk.host._on_signal("signal SIGTERM")
    for connection in both:
        await connection.closed.wait()
        await connection.close()
    assert await desk.running == 0


async def test_something_else_on_the_channel_is_let_pass(desk):
    first = await desk.ready("a")
    desk.channel.send(b"hello")
    second = await desk.ready("b")
    await end(first)
    await end(second)
