"""What is written beside the loop: nothing is lost unsaid, and nobody waits for it."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ConnectionError as RedisDown

from models.control.recording import Arrivals, Dropped, Line
from tests.models.control.scene import Scene, card

pytestmark = pytest.mark.anyio


async def test_a_slow_store_gets_one_batch_at_a_time_and_loses_nothing() -> None:
    scene = Scene([card("a", 60)])
    batches: list[tuple[Line, ...]] = []
    go_on = asyncio.Event()

    async def record(lines: tuple[Line, ...]) -> None:
        batches.append(lines)
        await go_on.wait()

    scene.store.record = record  # type: ignore[method-assign]
    scene.order("record", for_s=60.0, wait=False)
    await scene.run(0.1)
    for _ in range(5):
        scene.hold("a")
        await scene.run(0.5)
    assert len(batches) == 1, "the loop went on, and asked for nothing more meanwhile"
    assert "a-1" in scene.states()
    go_on.set()
    await scene.run(0.1)
    everything = [line for batch in batches for line in batch]
    assert sum(line.count for line in everything if isinstance(line, Arrivals)) == 5


async def test_lines_that_redis_did_not_take_are_counted() -> None:
    scene = Scene([card("a", 60)])
    scene.order("record", for_s=60.0, wait=False)
    scene.store.record_broken = RedisDown("gone")
    scene.hold("a")
    await scene.run(0.5)
    assert scene.store.lines == []
    scene.store.record_broken = None
    scene.hold("a")
    await scene.run(0.5)
    dropped = [line for line in scene.store.lines if isinstance(line, Dropped)]
    assert sum(line.lines for line in dropped) > 0
    assert any(isinstance(line, Arrivals) for line in scene.store.lines)
    assert list(scene.states()) == ["a-1"], "what was begun went on"
