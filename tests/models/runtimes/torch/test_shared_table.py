"""The launcher's table of shared processes: who gets an order, and what happens when its process does not greet."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from models.runtimes.launcher.children import Children
from models.runtimes.launcher.handover import receive
from models.runtimes.launcher.peers import Ordered, Peer
from models.runtimes.launcher.spares import Spare
from models.runtimes.protocol import Device, EngineStatus
from models.runtimes.torch.shared_process import process_log, read_note, shared_device, shares_process, tell
from models.runtimes.torch.shared_table import SharedTable
from models.runtimes.wire import decode_from_engine
from tests.models.runtimes.orders import order

pytestmark = pytest.mark.anyio


class Desk:
    def __init__(self, folder, patience_s=5.0):
        self.folder = folder
        self.children = Children()
        self.started = []
        self.lost = []
        self.table = SharedTable(self.children, self._start, self._lose, patience_s)
        self.clients = []
        self.sockets = []

    def _start(self, pid, started):
        self.started.append((pid, started.replica_id))

    def _lose(self, ordered, why):
        self.lost.append((ordered.order.replica_id, why))

    def pair(self, kind):
        made = socket.socketpair(socket.AF_UNIX, kind)
        self.sockets += made
        return made

    def close(self):
        for each in self.sockets:
            each.close()

    def ordered(self, name, device="gpu-0"):
        client, connection = self.pair(socket.SOCK_STREAM)
        self.clients.append(client)
        made = order(self.folder, name, runtime="torch", device=Device(id=device), process="shared")
        return Ordered(made, Peer(connection), 1.5)

    def process(self, pid, name="first", device="gpu-0"):
        """A shared process that has begun with one replica; our end of its channel."""
        ours, theirs = self.pair(socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        first = self.ordered(name, device)
        self.table.begins(first.order)
        self.children.add(pid, first.order)
        self.table.begun(Spare(pid, 1, ours), first.order)
        return theirs


@pytest.fixture
async def desk(tmp_path):
    made = Desk(tmp_path)
    yield made
    made.table.ended(17)
    made.close()


async def heard():
    for _ in range(3):
        await asyncio.sleep(0.001)


async def test_the_first_order_of_a_device_takes_a_child_and_the_next_ones_wait_for_it(desk):
    first = desk.ordered("a")
    assert desk.table.place(first) == "child"
    desk.table.begins(first.order)
    assert desk.table.place(desk.ordered("b")) == "later"
    assert desk.table.place(desk.ordered("c", device="gpu-1")) == "child"
    desk.table.not_begun(first.order)
    assert desk.table.place(desk.ordered("b")) == "child"


async def test_further_orders_are_handed_to_the_process(desk):
    theirs = desk.process(17)
    ordered = desk.ordered("b")
    assert desk.table.place(ordered) == "handed"
    handed = receive(theirs)
    assert handed is not None
    handed.connection.close()
    assert (handed.order, handed.received_s) == (ordered.order, 1.5)
    assert desk.started == []
    tell(theirs, "greeted", ordered.order.control_path)
    await heard()
    assert desk.started == [(17, "b")]
    assert desk.children.of(ordered.order.control_path) == 17
    assert len(desk.children) == 2
    tell(theirs, "ended", ordered.order.control_path)
    await heard()
    assert desk.children.of(ordered.order.control_path) is None
    assert len(desk.children) == 1


async def test_an_order_that_its_process_took_along_is_lost_and_not_run(desk):
    theirs = desk.process(17)
    ordered = desk.ordered("b")
    desk.table.place(ordered)
    theirs.close()
    desk.table.ended(17)
    assert desk.lost == [("b", "the shared process 17 ended before it took up its order")]
    assert desk.children.of(ordered.order.control_path) is None
    assert desk.table.place(desk.ordered("c")) == "child"


async def test_a_process_that_hangs_up_gets_no_more_orders(desk):
    theirs = desk.process(17)
    theirs.close()
    assert desk.table.place(desk.ordered("b")) == "child"
    assert len(desk.children) == 1  # the first one is for its end to be told


async def test_one_that_does_not_greet_is_declined(tmp_path):
    desk = Desk(tmp_path, patience_s=0.01)
    theirs = desk.process(17)
    assert desk.table.place(desk.ordered("b")) == "handed"
    await asyncio.sleep(0.05)
    theirs.close()
    said = decode_from_engine(desk.clients[-1].recv(1 << 16))
    assert isinstance(said, EngineStatus)
    assert said.error == "the shared process 17 of its device takes up no order"
    assert len(desk.children) == 1
    desk.close()


async def test_what_is_no_note_is_let_pass(desk):
    theirs = desk.process(17)
    theirs.send(b"?")
    await heard()
    assert desk.table.place(desk.ordered("b")) == "handed"


def test_notes():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        tell(ours, "greeted", "/run/x.ctl")
        assert read_note(theirs.recv(100)) == ("greeted", "/run/x.ctl")
        tell(ours, "ended", "/run/x.ctl")
        assert read_note(theirs.recv(100)) == ("ended", "/run/x.ctl")
    assert read_note(b"x") is None


@pytest.mark.parametrize(
    ("runtime", "process", "shared"),
    [("torch", "shared", True), ("torch", "own", False), ("torch", None, False), ("vllm", "shared", False)],
)
def test_who_shares(tmp_path, runtime, process, shared):
    given = {} if process is None else {"process": process}
    assert shares_process(order(tmp_path, runtime=runtime, **given)) == shared


def test_devices_and_their_log(tmp_path):
    assert shared_device(Device(id="node-1/gpu-0")) == "cpu-node-1-gpu-0"
    assert shared_device(Device(kind="cuda", uuid="GPU-1a", id="n/gpu-0")) == "cuda-GPU-1a"
    assert shared_device(Device()) == "cpu-any"
    ordered = order(tmp_path, device=Device(id="n/gpu-0"))
    assert process_log(ordered, 7) == os.path.join(tmp_path, "logs", "shared-cpu-n-gpu-0-7.log")
