"""The engine's end of the control wire, over real sockets in one process."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import msgspec
import pytest

from models.runtimes import wire
from models.runtimes.host.control import ControlServer, Lease
from models.runtimes.protocol import EngineReply, EngineStatus, Refusal
from models.runtimes.sockets import bind_private
from tests.models.runtimes.launchers import short_folder
from tests.models.runtimes.orders import order

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def folder():
    with short_folder() as made:
        yield made


def status_of(folder, state="loading"):
    return EngineStatus(state=state, pid=1, order=order(folder))


class Owner:
    """Somebody at the other end of a connection."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    async def hear(self):
        return wire.decode_from_engine(await asyncio.wait_for(self.reader.readline(), 5))

    def say(self, line):
        self.writer.write(line)

    def ask(self, seq, op):
        self.say(wire.encode(wire.ControlRequest(seq=seq, op=op)))


@contextlib.asynccontextmanager
async def connected(folder, handler):
    control = ControlServer(status_of(folder), handler)
    await control.listen(bind_private(str(folder / "c")))
    reader, writer = await asyncio.open_unix_connection(str(folder / "c"), limit=wire.LINE_LIMIT_BYTES)
    yield control, Owner(reader, writer)
    writer.close()


async def test_a_connection_is_greeted_answered_and_told_of_changes(folder):
    ready = status_of(folder, "ready")

    async def handler(request):
        return EngineReply(seq=request.seq, ok=True, status=ready)

    async with connected(folder, handler) as (control, owner):
        assert (await owner.hear()).state == "loading"
        owner.ask(4, "renew")
        assert await owner.hear() == EngineReply(seq=4, ok=True, status=ready)
        control.push(ready)
        assert await owner.hear() == ready


async def test_the_connection_that_the_order_came_in_on_is_a_control_connection(folder):
    ours, theirs = socket.socketpair()

    async def handler(request):
        return EngineReply(seq=request.seq, ok=True, status=status_of(folder))

    control = ControlServer(status_of(folder), handler)
    await control.adopt(theirs)
    owner = Owner(*await asyncio.open_unix_connection(sock=ours))
    assert (await owner.hear()).state == "loading"
    owner.ask(1, "status")
    assert (await owner.hear()).seq == 1
    owner.writer.close()


async def test_a_renewal_overtakes_a_slow_wake(folder):
    done = asyncio.Event()

    async def handler(request):
        if request.op == "wake":
            await done.wait()
        return EngineReply(seq=request.seq, ok=True, status=status_of(folder))

    async with connected(folder, handler) as (_, owner):
        await owner.hear()
        owner.ask(1, "wake")
        owner.ask(2, "renew")
        assert (await owner.hear()).seq == 2
        done.set()
        assert (await owner.hear()).seq == 1


async def test_nonsense_is_refused_and_the_connection_stays(folder):
    async def handler(request):
        return EngineReply(seq=request.seq, ok=True, status=status_of(folder))

    async with connected(folder, handler) as (_, owner):
        await owner.hear()
        owner.say(b'{"op": "explode", "seq": 1}\n')
        refusal = await owner.hear()
        assert isinstance(refusal, Refusal)
        assert "explode" in refusal.refused
        owner.ask(1, "status")
        assert (await owner.hear()).seq == 1


async def test_an_endless_line_ends_the_connection(folder):
    async def handler(request):
        raise AssertionError(request)

    async with connected(folder, handler) as (_, owner):
        await owner.hear()
        with contextlib.suppress(ConnectionError):
            owner.say(b"x" * (wire.LINE_LIMIT_BYTES + 10))
            await owner.writer.drain()
            assert await owner.reader.read() == b""


async def test_an_owner_that_reads_nothing_is_hung_up_on_and_others_are_served(folder):
    async def handler(request):
        return EngineReply(seq=request.seq, ok=True, status=status_of(folder))

    async with connected(folder, handler) as (control, owner):
        await owner.hear()
        deaf = socket.socket(socket.AF_UNIX)
        deaf.connect(str(folder / "c"))
        await asyncio.sleep(0)
        big = msgspec.structs.replace(status_of(folder, "failed"), error="x" * 100_000)
        for _ in range(40):
            control.push(big)
            assert (await owner.hear()).state == "failed"
        deaf.setblocking(False)
        received = 0
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while part := deaf.recv(1 << 20):
                received += len(part)
        assert received < 40 * len(wire.encode(big))
        deaf.close()


async def test_a_flush_waits_until_everything_has_left(folder):
    async def handler(request):
        raise AssertionError(request)

    async with connected(folder, handler) as (control, owner):
        await owner.hear()
        slow = socket.socket(socket.AF_UNIX)
        slow.connect(str(folder / "c"))
        await asyncio.to_thread(slow.recv, 1)  # greeted
        control.push(msgspec.structs.replace(status_of(folder, "failed"), error="x" * 900_000))
        flushing = asyncio.create_task(control.flush())
        await owner.hear()
        assert not flushing.done()  # more than a socket takes while nobody reads
        received = 0
        while received < 900_000:
            received += len(await asyncio.to_thread(slow.recv, 1 << 20))
        await asyncio.wait_for(flushing, 5)
        slow.close()


def test_a_lease_runs_from_its_last_renewal():
    clock = Clock()
    lease = Lease(10.0, clock)
    clock.now_s += 9
    assert lease.left_s() == 1
    lease.renew()
    assert lease.left_s() == 10
    clock.now_s += 11
    assert lease.left_s() == 0


async def test_an_expired_lease_is_noticed_at_once():
    clock = Clock()
    lease = Lease(10.0, clock)
    clock.now_s += 10
    await asyncio.wait_for(lease.expired(), 1)
