"""Which child gets which order, with children that are only sockets."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import sys

import pytest

from models.runtimes.launcher import dispatch as dispatch_module
from models.runtimes.launcher.children import Children
from models.runtimes.launcher.dispatch import Dispatch
from models.runtimes.launcher.handover import receive, say_greeted
from models.runtimes.launcher.peers import Ordered, Peer
from models.runtimes.launcher.spares import Spare
from tests.models.runtimes.launchers import short_folder
from tests.models.runtimes.orders import order

pytestmark = pytest.mark.anyio

KILLED = 9  # as waitpid tells it
NOBODY = itertools.count(5_000_000)  # above any pid


OPENED: list[socket.socket] = []  # sockets, closed after each test


def pair(kind=socket.SOCK_STREAM):
    made = socket.socketpair(socket.AF_UNIX, kind)
    OPENED.extend(made)
    return made


class FakeZygote:
    """Notes what is wished; ``grant`` grants the oldest wish."""

    def __init__(self, number=1):
        self.number = number
        self.outstanding = 0
        self.ends = {}

    def fork(self):
        self.outstanding += 1

    def grant(self, dispatch):
        self.outstanding -= 1
        ours, theirs = pair(socket.SOCK_SEQPACKET)
        theirs.settimeout(5)
        pid = next(NOBODY)
        self.ends[pid] = theirs
        dispatch.forked(Spare(pid, self.number, ours))
        return pid

    def die(self, dispatch, pid):
        self.ends.pop(pid).close()
        dispatch.ended(pid, KILLED)


@pytest.fixture
def folder():
    with short_folder() as made:
        yield made


@pytest.fixture(autouse=True)
async def nothing_left_open():
    yield
    loop = asyncio.get_running_loop()
    while OPENED:
        end = OPENED.pop()
        if end.fileno() >= 0:
            loop.remove_reader(end)
        end.close()


@pytest.fixture
def clients():
    return []


@pytest.fixture
def ordered(folder, clients):
    def make(name="r1", **settings):
        ours, theirs = pair()
        ours.settimeout(5)
        theirs.setblocking(False)
        clients.append(ours)
        return Ordered(order(folder, name, **settings), Peer(theirs), 0.0)

    return make


def made(spares=0, unknown=lambda _runtime: None):
    return Dispatch(Children(), spares, unknown)


def received(end):
    """The order that came, if any; its connection is closed with the rest."""
    handed = receive(end)
    if handed is not None:
        OPENED.append(handed.connection)
    return handed


def told(client):
    """What the launcher says in the engine's place; None when it says nothing."""
    client.setblocking(False)
    try:
        return json.loads(client.recv(65536))
    except BlockingIOError:
        return None


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_order_without_a_spare_waits_for_a_fork(ordered):
    dispatch, zygote = made(), FakeZygote()
    dispatch.use(zygote)
    wanted = ordered()
    dispatch.take(wanted)
    assert zygote.outstanding == 1
    pid = zygote.grant(dispatch)
    handed = received(zygote.ends[pid])
    assert handed.order == wanted.order
    say_greeted(zygote.ends[pid])
    await settle()
    assert dispatch.started == 1
    assert wanted.peer.connection.fileno() == -1, "the child has it now"
    handed.connection.close()


async def test_orders_wait_until_something_is_warm_and_only_so_many(ordered, clients, monkeypatch):
    monkeypatch.setattr(dispatch_module, "MOST_WAITING_ORDERS", 2)
    dispatch, zygote = made(), FakeZygote()
    for number in range(3):
        dispatch.take(ordered(f"r{number}"))
    assert told(clients[0]) is told(clients[1]) is None
    refused = told(clients[2])
    assert (refused["state"], refused["pid"]) == ("failed", 0)
    assert refused["error"] == "the launcher is still warming and 2 orders wait already"
    dispatch.use(zygote)
    assert zygote.outstanding == 2


async def test_as_many_are_forked_ahead_as_are_wanted(ordered):
    dispatch, zygote = made(spares=2), FakeZygote()
    dispatch.use(zygote)
    assert zygote.outstanding == 2
    pids = [zygote.grant(dispatch), zygote.grant(dispatch)]
    assert len(dispatch.spares) == 2
    dispatch.take(ordered())
    assert received(zygote.ends[pids[0]]) is not None, "the one that has waited longest"
    assert zygote.outstanding == 0, "not beside the start of an engine"


async def test_a_spare_is_replaced_once_it_is_quiet(ordered, monkeypatch):
    monkeypatch.setattr(dispatch_module, "QUIET_S", 0.02)
    dispatch, zygote = made(spares=1), FakeZygote()
    dispatch._pause_s = 0.02
    dispatch.use(zygote)
    zygote.grant(dispatch)
    dispatch.take(ordered())
    while not zygote.outstanding:
        await asyncio.sleep(0.005)
    assert zygote.outstanding == 1


async def test_a_spare_that_has_died_is_never_given_an_order(ordered):
    dispatch, zygote = made(spares=2), FakeZygote()
    dispatch.use(zygote)
    dead, alive = zygote.grant(dispatch), zygote.grant(dispatch)
    zygote.ends[dead].close()  # the launcher has not noticed yet
    dispatch.take(ordered())
    await settle()
    assert received(zygote.ends[alive]) is not None


async def test_an_order_whose_child_dies_before_it_greets_is_given_to_another(ordered, clients):
    dispatch, zygote = made(), FakeZygote()
    dispatch.use(zygote)
    dispatch.take(ordered())
    first = zygote.grant(dispatch)
    received(zygote.ends[first]).connection.close()
    zygote.die(dispatch, first)
    assert zygote.outstanding == 1
    second = zygote.grant(dispatch)
    handed = received(zygote.ends[second])
    handed.connection.send(b"greetings")
    assert clients[0].recv(9) == b"greetings"
    handed.connection.close()


async def test_an_order_that_kills_every_child_is_declined(ordered, clients):
    dispatch, zygote = made(), FakeZygote()
    dispatch.use(zygote)
    dispatch.take(ordered())
    for _ in range(dispatch_module.MOST_LOST):
        assert zygote.outstanding == 1
        pid = zygote.grant(dispatch)
        received(zygote.ends[pid]).connection.close()
        zygote.die(dispatch, pid)
    assert "died before it took up its order, as did 2 before it" in told(clients[0])["error"]
    assert zygote.outstanding == 0


async def test_a_child_that_has_greeted_and_dies_is_an_engine_that_has_died(ordered, folder):
    dispatch, zygote = made(), FakeZygote()
    dispatch.use(zygote)
    dispatch.take(ordered())
    pid = zygote.grant(dispatch)
    received(zygote.ends[pid]).connection.close()
    say_greeted(zygote.ends[pid])
    zygote.die(dispatch, pid)  # both before the launcher looks
    assert zygote.outstanding == 0
    assert json.loads((folder / "r1.ctl.exit").read_bytes())["signal"] == KILLED


async def test_a_child_that_does_not_take_its_order_up_is_killed(ordered, monkeypatch):
    monkeypatch.setattr(dispatch_module, "GREETING_TIMEOUT_S", 0.05)
    dispatch, zygote = made(), FakeZygote()
    dispatch.use(zygote)
    dispatch.take(ordered())
    ours, _ = pair(socket.SOCK_SEQPACKET)
    deaf = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(600)")
    dispatch.forked(Spare(deaf.pid, 1, ours))
    assert await asyncio.wait_for(deaf.wait(), 20) == -KILLED


async def test_a_silent_child_that_is_gone_already_is_as_good_as_dead(ordered, monkeypatch):
    monkeypatch.setattr(dispatch_module, "GREETING_TIMEOUT_S", 0.01)
    dispatch, zygote = made(), FakeZygote()
    dispatch.use(zygote)
    dispatch.take(ordered())
    zygote.grant(dispatch)
    while not zygote.outstanding:
        await asyncio.sleep(0.005)
    assert zygote.outstanding == 1


async def test_a_client_that_has_left_costs_no_child(ordered, clients):
    dispatch, zygote = made(), FakeZygote()
    dispatch.take(ordered())
    clients[0].close()
    dispatch.use(zygote)
    assert zygote.outstanding == 0


async def test_the_same_replica_is_not_started_twice(ordered, clients, monkeypatch):
    monkeypatch.setattr(Children, "is_ending", lambda _children, _pid: False)
    dispatch, zygote = made(), FakeZygote()
    dispatch.use(zygote)
    dispatch.take(ordered())
    dispatch.take(ordered())
    zygote.grant(dispatch)
    zygote.grant(dispatch)
    assert told(clients[1])["error"] == "replica r1 is running already"
    assert len(dispatch.spares) == 0, "a child too many is let go"


async def test_a_replica_whose_process_is_ending_is_started_when_it_has_ended(ordered, monkeypatch):
    dispatch, zygote = made(), FakeZygote()
    dispatch.use(zygote)
    dispatch.take(ordered())
    pid = zygote.grant(dispatch)
    received(zygote.ends[pid]).connection.close()
    say_greeted(zygote.ends[pid])
    await settle()
    dispatch.take(ordered())  # no such pid: it is ending
    assert zygote.outstanding == 0
    zygote.die(dispatch, pid)
    assert zygote.outstanding == 1


async def test_what_cannot_be_had_is_declined_with_the_reason(ordered, clients):
    dispatch, zygote = made(unknown=lambda runtime: f"there is no {runtime}"), FakeZygote()
    dispatch.use(zygote)
    dispatch.take(ordered())
    assert told(clients[0])["error"] == "there is no fake"


async def test_a_fork_that_fails_is_paid_for_by_the_oldest_order(ordered, clients):
    dispatch, zygote = made(), FakeZygote()
    dispatch.use(zygote)
    dispatch.take(ordered("r1"))
    dispatch.take(ordered("r2"))
    zygote.outstanding -= 1
    dispatch.not_forked("the launcher cannot fork: Cannot allocate memory")
    assert told(clients[0])["error"] == "the launcher cannot fork: Cannot allocate memory"
    assert told(clients[1]) is None


async def test_spares_of_an_old_zygote_serve_until_the_new_ones_are_there(ordered):
    dispatch, old, new = made(spares=2), FakeZygote(1), FakeZygote(2)
    dispatch.use(old)
    first, second = old.grant(dispatch), old.grant(dispatch)
    dispatch.use(new)
    assert new.outstanding == 2
    dispatch.take(ordered("r1"))
    assert received(old.ends[first]) is not None
    third = new.grant(dispatch)
    dispatch.take(ordered("r2"))
    assert received(new.ends[third]) is not None, "of the new ones first"
    new.grant(dispatch)
    new.fork()
    new.grant(dispatch)
    assert len(dispatch.spares) == 2
    assert received(old.ends[second]) is None, "it was told to go"


async def test_without_a_zygote_the_spares_left_serve_and_the_rest_waits(ordered, clients):
    dispatch, zygote = made(spares=1), FakeZygote()
    dispatch.use(zygote)
    pid = zygote.grant(dispatch)
    dispatch.use(None)
    dispatch.take(ordered("r1"))
    assert received(zygote.ends[pid]) is not None
    dispatch.take(ordered("r2"))
    assert told(clients[1]) is None
    dispatch.decline_all("no warm process could be made")
    assert told(clients[1])["error"] == "no warm process could be made"


async def test_an_engine_that_nobody_waited_for_is_not_waited_for_for_ever(ordered, clients):
    children = Children()
    dispatch, zygote = Dispatch(children, 0, lambda _runtime: None), FakeZygote()
    dispatch.use(zygote)
    dispatch.take(ordered())
    pid = zygote.grant(dispatch)
    received(zygote.ends[pid]).connection.close()
    say_greeted(zygote.ends[pid])
    await settle()
    dispatch.take(ordered())
    assert len(children) == 1
    dispatch.vanished()
    assert len(children) == 0
    assert zygote.outstanding == 1, "the order that waited for its end goes on"


async def test_no_more_are_asked_for_at_a_time_than_can_be_forked_soon(ordered):
    dispatch, zygote = made(), FakeZygote()
    dispatch.use(zygote)
    for number in range(dispatch_module.MOST_OUTSTANDING + 5):
        dispatch.take(ordered(f"r{number}"))
    assert zygote.outstanding == dispatch_module.MOST_OUTSTANDING
    zygote.grant(dispatch)
    assert zygote.outstanding == dispatch_module.MOST_OUTSTANDING
