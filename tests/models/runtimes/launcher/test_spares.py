"""Children forked ahead: real ones, of a real launcher."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from models.runtimes import proc
from models.runtimes.host.exits import read_exit_report
from tests.models.runtimes.fake_runtime import NAME
from tests.models.runtimes.http_calls import call
from tests.models.runtimes.launchers import launcher, short_folder, until_gone
from tests.models.runtimes.orders import MIB, order

pytestmark = pytest.mark.anyio

FAKE = f"{NAME}:make"


@pytest.fixture
def folder():
    with short_folder() as made:
        yield made


@pytest.fixture(scope="module")
def shared():
    with short_folder() as folder, launcher(folder, FAKE, "--spares", "2") as running:
        yield running


def children_of(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def zygote_of(running):
    (zygote,) = children_of(running.process.pid)
    return zygote


async def with_spares(running, count):
    """Its status once it has so many."""
    until = time.monotonic() + 60
    while True:
        status = await running.ready()
        if status.spares == count:
            return status
        assert time.monotonic() < until, f"{status.spares} spares, not {count}\n{running.log}"
        await asyncio.sleep(0.02)


def idle(running):
    """Children of the zygote that have no engine's log yet."""
    spares = []
    for pid in children_of(zygote_of(running)):
        if os.readlink(f"/proc/{pid}/fd/2").endswith("launcher.log"):
            spares.append(pid)
    return spares


async def test_an_order_goes_to_a_child_that_waits_and_the_child_is_replaced(shared):
    await with_spares(shared, 2)
    waiting = idle(shared)
    engine = await shared.start(order(shared.folder, "first"))
    assert engine.status.pid in waiting
    status = await with_spares(shared, 2)
    assert status.engines == 1
    assert len(idle(shared)) == 2
    await engine.call("stop")
    await engine.closed.wait()
    report = read_exit_report(engine.status.order.control_path)
    assert report is not None
    assert report.code == 0


async def test_idle_ones_cost_little_and_their_memory_is_told(shared):
    await with_spares(shared, 2)
    await asyncio.sleep(0.4)  # they settle
    status = await shared.ready()
    assert 0 < status.spare_bytes < 2 * 20 * MIB


async def test_idle_ones_are_in_nobodys_session_and_hold_nothing_of_others_open(shared):
    await with_spares(shared, 2)
    theirs = [{os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()} for pid in idle(shared)]
    sockets = [{name for name in names if name.startswith("socket:")} for names in theirs]
    assert not sockets[0] & sockets[1]
    assert all(os.getsid(pid) == pid for pid in idle(shared))


async def test_more_orders_than_spares_at_once(shared):
    await with_spares(shared, 2)
    engines = await asyncio.gather(*(shared.start(order(shared.folder, f"burst{number}")) for number in range(6)))
    assert len({engine.status.pid for engine in engines}) == 6
    await asyncio.gather(*(engine.call("stop") for engine in engines))
    await with_spares(shared, 2)


async def test_a_dead_one_is_noticed_and_never_given_an_order(shared):
    await with_spares(shared, 2)
    killed = idle(shared)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    engine = await shared.start(order(shared.folder, "undaunted"))
    assert engine.status.pid not in killed
    await engine.call("stop")
    await with_spares(shared, 2)


async def test_an_order_in_the_hands_of_a_child_that_dies_is_given_to_another(shared):
    await with_spares(shared, 2)
    frozen = idle(shared)
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    connecting = asyncio.create_task(shared.start(order(shared.folder, "survivor")))
    while not (await shared.client.ping()).spares < 2:
        await asyncio.sleep(0.01)
    for pid in frozen:
        os.kill(pid, signal.SIGKILL)  # stopped, it has read nothing
    engine = await connecting
    assert engine.status.pid not in frozen
    assert (await call(engine.status.order.http_path, "/echo"))[0] == 200
    await engine.call("stop")


async def test_none_are_kept_when_none_are_wanted(folder):
    with launcher(folder, FAKE, "--spares", "0") as running:
        await running.ready()
        engine = await running.start(order(folder, "alone"))
        assert (await running.ready()).spares == 0
        assert children_of(zygote_of(running)) == [engine.status.pid]
        await engine.call("stop")
        await engine.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_they_vanish_with_the_launcher_and_the_engines_go_on(folder, number):
    with launcher(folder, FAKE) as running:
        await with_spares(running, 2)
        engine = await running.start(order(folder, "goes-on"))
        zygote = zygote_of(running)
        spares = idle(running)
        assert spares
        running.process.send_signal(number)
        running.process.wait(10)
        for pid in (zygote, *spares):
            await until_gone(pid)
        assert (await call(engine.status.order.http_path, "/echo"))[0] == 200
        await engine.call("stop")
        await engine.close()


async def test_a_killed_zygote_is_replaced_and_its_engines_go_on_and_stay_on_record(folder):
    with launcher(folder, FAKE) as running:
        await with_spares(running, 2)
        before = await running.start(order(folder, "before"))
        os.kill(zygote_of(running), signal.SIGKILL)
        meanwhile = await running.start(order(folder, "meanwhile"))
        status = await with_spares(running, 2)
        while status.generation < 2:
            status = await running.ready()
        assert (await call(before.status.order.http_path, "/echo"))[0] == 200
        seen = proc.stat(before.status.pid)
        assert seen is not None
        assert seen.parent == running.process.pid
        os.kill(before.status.pid, signal.SIGKILL)
        await asyncio.wait_for(before.closed.wait(), 10)
        report = read_exit_report(before.status.order.control_path)
        assert report is not None
        assert report.signal == signal.SIGKILL
        again = await running.start(order(folder, "before"))
        for engine in (meanwhile, again):
            await engine.call("stop")
            await engine.close()
        assert "was ended by signal 9 (Killed); its engines go on" in running.log
