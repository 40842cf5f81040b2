"""What stands of a node is told to whoever asks, as soon as it is not what they know."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from models.fleet import node_watch
from models.fleet.gpu_watch import GpuWatch
from models.fleet.node_watch import NodeFacts, NodeWatch
from models.fleet.reclaim import ReclaimWatch
from models.runtimes.protocol import Device
from packers.types import GpuId

pytestmark = pytest.mark.anyio
GPU = GpuId("n/gpu-0")
NOTHING = NodeFacts()


def watch_on(folder: Path) -> NodeWatch:
    gpus = GpuWatch({GPU: Device(id=GPU)}, folder / "lost", None)
    return NodeWatch(gpus, ReclaimWatch(folder / "reclaim", None), lambda: 1_700_000_000.0)


async def test_nothing_stands_and_the_answer_comes_when_it_is_due(tmp_path: Path) -> None:
    assert await watch_on(tmp_path).other_than(NOTHING, 0.0) == NOTHING


async def test_who_knows_something_else_is_answered_at_once(tmp_path: Path) -> None:
    watch = watch_on(tmp_path)
    stale = NodeFacts(lost={"n/gpu-0": "it was"})
    async with asyncio.timeout(5):
        assert await watch.other_than(stale, 3600.0) == NOTHING


async def test_all_who_wait_are_answered_when_a_gpu_is_lost_or_an_end_is_near(tmp_path: Path) -> None:
    watch = watch_on(tmp_path)
    assert await watch.other_than(NOTHING, 0.0) == NOTHING
    waiting = [asyncio.ensure_future(watch.other_than(NOTHING, 3600.0)) for _ in range(2)]
    (tmp_path / "lost").write_text("0 Xid 48: broken\n")
    await watch.look()
    lost = NodeFacts(lost={"n/gpu-0": "Xid 48: broken"})
    assert [await each for each in waiting] == [lost, lost]
    again = asyncio.ensure_future(watch.other_than(lost, 3600.0))
    (tmp_path / "reclaim").write_text("1700000030")
    await watch.look()
    facts = await again
    assert (facts.lost, facts.leaving_unix_s) == (lost.lost, 1_700_000_030.0)
    assert "its owner takes it away" in facts.leaving_reason
    (tmp_path / "lost").unlink()
    (tmp_path / "reclaim").unlink()
    await watch.look()
    assert await watch.other_than(facts, 3600.0) == watch.facts == NOTHING


async def test_it_looks_again_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_watch, "LOOK_EVERY_S", 0.001)
    watch = watch_on(tmp_path)
    assert await watch.other_than(NOTHING, 0.0) == NOTHING
    (tmp_path / "lost").write_text("0 gone\n")
    async with asyncio.timeout(5):
        assert (await watch.other_than(NOTHING, 3600.0)).lost == {"n/gpu-0": "gone"}


async def test_a_driver_that_hangs_holds_up_nobody_and_what_was_known_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(node_watch, "PATIENCE_S", 0.05)
    let_go = threading.Event()

    class Hangs(GpuWatch):
        def look(self) -> dict[GpuId, str]:
            let_go.wait(10)
            return {}

    watch = watch_on(tmp_path)
    (tmp_path / "lost").write_text("0 gone\n")
    await watch.look()
    hanging: Any = watch
    hanging._gpus = Hangs({}, tmp_path / "none", None)
    try:
        await watch.look()
    finally:
        let_go.set()
    assert watch.facts.lost == {"n/gpu-0": "gone"}
    assert "the driver has not said" in caplog.text


async def test_a_driver_that_hangs_is_not_asked_again_before_it_has_answered_which_then_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question takes a thread, of which the node has few: engines are started with them as well."""
    monkeypatch.setattr(node_watch, "PATIENCE_S", 0.02)
    let_go, asked = threading.Event(), []

    class Hangs(GpuWatch):
        def look(self) -> dict[GpuId, str]:
            asked.append(GPU)
            let_go.wait(10)
            return {GPU: "it hung"}

    watch: Any = watch_on(tmp_path)
    watch._gpus = Hangs({}, tmp_path / "none", None)
    try:
        for _ in range(3):
            await watch.look()
        assert (len(asked), watch.facts) == (1, NOTHING)
    finally:
        let_go.set()
    monkeypatch.setattr(node_watch, "PATIENCE_S", 5.0)
    await watch.look()
    assert (len(asked), watch.facts.lost) == (1, {"n/gpu-0": "it hung"})
    await watch.look()
    assert len(asked) == 2


async def test_a_driver_that_hangs_keeps_no_notice_of_the_end_from_being_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_watch, "PATIENCE_S", 0.02)
    let_go = threading.Event()

    class Hangs(GpuWatch):
        def look(self) -> dict[GpuId, str]:
            let_go.wait(10)
            return {}

    watch: Any = watch_on(tmp_path)
    watch._gpus = Hangs({}, tmp_path / "none", None)
    (tmp_path / "reclaim").write_text("1700000030")
    try:
        await watch.look()
        assert watch.facts.leaving_unix_s == 1_700_000_030.0
    finally:
        let_go.set()


async def test_two_who_ask_first_make_it_look_once_every_while_not_twice(tmp_path: Path) -> None:
    watch = watch_on(tmp_path)
    before = asyncio.all_tasks()
    await asyncio.gather(watch.other_than(NOTHING, 0.0), watch.other_than(NOTHING, 0.0))
    assert len(asyncio.all_tasks() - before) == 1
