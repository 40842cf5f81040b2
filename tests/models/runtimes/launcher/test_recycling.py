"""A warm process that is replaced while orders come, and one that cannot be made."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from typing import Any, cast

import pytest

from models.runtimes.host.exits import read_exit_report
from models.runtimes.launcher import generations as generations_module
from models.runtimes.launcher.ageing import Bounds
from models.runtimes.launcher.generations import Generations, Limits
from models.runtimes.launcher.recipe import recipe_for
from models.runtimes.protocol import EngineError
from tests.models.runtimes.fake_runtime import NAME
from tests.models.runtimes.http_calls import call
from tests.models.runtimes.launcher.test_spares import children_of, with_spares, zygote_of
from tests.models.runtimes.launchers import is_alive, launcher, short_folder, until_gone
from tests.models.runtimes.moody_runtime import NAME as MOODY_NAME
from tests.models.runtimes.moody_runtime import set_mood
from tests.models.runtimes.orders import order

pytestmark = pytest.mark.anyio

FAKE, SLOW, MOODY = f"{NAME}:make", f"{NAME}:slow", f"{MOODY_NAME}:moody"


@pytest.fixture
def folder():
    with short_folder() as made:
        yield made


async def generation(running, number):
    while (status := await running.ready()).generation < number:
        await asyncio.sleep(0.01)
    return status


async def test_orders_are_served_while_a_successor_warms_and_takes_over(folder):
    with launcher(folder, f"{FAKE},{SLOW}") as running:
        await with_spares(running, 2)
        old = zygote_of(running)
        kept = await running.start(order(folder, "kept"))
        await running.client.recycle()
        longest_s = 0.0
        for number in itertools.count():
            engine = await running.start(order(folder, f"during{number}"))
            longest_s = max(longest_s, engine.status.timings_s["ready"])
            await engine.call("stop")
            await engine.close()
            if (await running.client.ping()).generation == 2:
                break
        assert number > 3, "the warm-up of a second was a gap"
        assert longest_s < 0.9
        await until_gone(old)
        while (status := await with_spares(running, 2)).engines > 1:
            await asyncio.sleep(0.01)
        assert (status.generation, status.problem) == (2, "")
        assert (await call(kept.status.order.http_path, "/echo"))[0] == 200
        os.kill(kept.status.pid, signal.SIGKILL)
        await asyncio.wait_for(kept.closed.wait(), 10)
        report = read_exit_report(kept.status.order.control_path)
        assert report is not None
        assert report.signal == signal.SIGKILL
        last = await running.start(order(folder, "last"))
        assert last.status.pid in children_of(zygote_of(running))
        await last.call("stop")
        await last.close()


async def test_it_is_renewed_after_so_many_forks(folder):
    with launcher(folder, FAKE, "--spares", "0", "--recycle-forks", "3") as running:
        await running.ready()
        for number in range(3):
            engine = await running.start(order(folder, f"fork{number}"))
            await engine.call("stop")
            await engine.close()
        status = await generation(running, 2)
        assert status.forks < 3
        assert "it has forked 3 times" in running.log


class Nursery:
    """Hears what a real zygote does."""

    def __init__(self):
        self.warm = asyncio.Event()
        self.gone = asyncio.Event()

    def warmed(self, generation):
        self.warm.set()

    def lost(self, generation):
        self.gone.set()


async def test_an_aged_one_goes_on_where_there_is_no_memory_for_a_second(folder, monkeypatch):
    monkeypatch.setattr(generations_module, "available_bytes", lambda: 0)
    nursery = Nursery()
    limits = Limits(bounds=Bounds(age_s=0.001))
    kept = Generations(recipe_for((FAKE,)), folder, limits, cast(Any, nursery))
    kept.begin()
    await asyncio.wait_for(nursery.warm.wait(), 60)
    kept._look()
    assert "no memory for a second one" in kept.problem
    assert kept.current is not None
    assert kept.current.number == 1
    kept.current.dismiss()
    pid, wait_status = await asyncio.to_thread(os.waitpid, kept.current.pid, 0)
    monkeypatch.setattr(kept, "_start_again", lambda: None)
    assert kept.ended(pid, wait_status)
    assert nursery.gone.is_set()


@pytest.mark.parametrize(
    ("mood", "said"),
    [
        ("crash", r"its warm-up's process was ended by signal 11 \(Segmentation fault\)"),
        ("exit", "its warm-up's process ended with code 3"),
        ("hang", r"its warm-up hangs \(not warmed within 4 s\)"),
    ],
)
async def test_a_runtime_whose_warm_up_takes_the_process_along_is_given_up_and_the_others_work(folder, mood, said):
    set_mood(folder, mood)
    with launcher(folder, f"{FAKE},{MOODY}", "--warm-timeout", "4") as running:
        status = await running.ready()
        assert status.runtimes["fake"] == "1.2.3"
        assert status.runtimes["moody"].startswith("unavailable: its warm-up")
        connection = await running.client.start(order(folder, "declined", runtime="moody"))
        with pytest.raises(EngineError, match=said):
            await connection.wait_ready()
        engine = await running.start(order(folder, "works"))
        await engine.call("stop")
        await engine.close()
        if mood != "exit":
            assert "moody_runtime.py" in running.log, "the log says where"


async def test_one_that_is_killed_while_it_warms_is_tried_again_as_it_was(folder):
    set_mood(folder, "killed")
    with launcher(folder, MOODY) as running:
        while "no warm process could be made" not in running.log:
            await asyncio.sleep(0.01)
        status = await running.client.ping()
        assert not status.ready
        assert "signal 9" in status.problem
        set_mood(folder, "")
        assert (await running.ready()).runtimes["moody"] == "1.2.3"


async def test_a_launcher_that_can_never_warm_ends_and_says_why(folder, monkeypatch):
    set_mood(folder, "killed")
    with launcher(folder, MOODY) as running:
        connecting = asyncio.create_task(first_words(running, order(folder, "hopeless", runtime="moody")))
        assert await asyncio.to_thread(running.process.wait, 60) == 1
        with pytest.raises(EngineError, match="no warm process could be made"):
            await connecting
        assert "ending (no warm process could be made: " in running.log


async def first_words(running, ordered):
    while not running.socket_path.exists():
        await asyncio.sleep(0.01)
    connection = await running.client.start(ordered)
    await connection.wait_ready()


async def test_a_successor_that_cannot_be_warmed_changes_nothing_but_what_is_said(folder):
    with launcher(folder, MOODY) as running:
        await with_spares(running, 2)
        old = zygote_of(running)
        set_mood(folder, "crash")
        await running.client.recycle()
        while not (status := await running.client.ping()).problem:
            await asyncio.sleep(0.01)
        assert "cannot be renewed: " in status.problem
        assert (status.ready, status.generation) == (True, 1)
        assert is_alive(old)
        engine = await running.start(order(folder, "served", runtime="moody"))
        await engine.call("stop")
        await engine.close()
        set_mood(folder, "")
        await running.client.recycle()
        status = await generation(running, 3)
        assert status.problem == ""
