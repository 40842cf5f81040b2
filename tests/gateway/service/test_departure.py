"""Leaving in order: word is left, engines have time to go, and nobody waits longer than that."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from gateway.service.departure import engines, leave
from gateway.service.report import Event
from models.home import Home

pytestmark = pytest.mark.anyio


@pytest.fixture
def engine(home: Home) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(home.engines / "one.ctl"))
        listening.listen()
        yield listening


async def test_without_engines_there_is_nothing_to_wait_for(home: Home) -> None:
    (home.engines / "dead.ctl").touch()  # its engine was killed
    await leave(home, _never, asyncio.Event())
    assert not home.reclaim_notice.exists()


async def test_it_leaves_word_and_goes_when_the_last_engine_has_gone(home: Home, engine: socket.socket) -> None:
    said: list[Event] = []
    leaving = asyncio.create_task(leave(home, said.append, asyncio.Event(), unix_s=lambda: 1000.0, leave_s=60.0))
    async with asyncio.timeout(10):
        while not home.reclaim_notice.exists():
            await asyncio.sleep(0.001)
        assert float(home.reclaim_notice.read_text()) == 1060.0
        assert len(engines(home)) == 1
        engine.close()
        await leaving
    assert "No engine is left" in said[-1].text


async def test_it_goes_when_the_time_is_over(home: Home, engine: socket.socket) -> None:
    said: list[Event] = []
    await leave(home, said.append, asyncio.Event(), leave_s=0.05)
    assert "Still here: 1 engine, " in said[-1].text


async def test_it_goes_at_once_when_somebody_is_in_a_hurry(home: Home, engine: socket.socket) -> None:
    hurry = asyncio.Event()
    hurry.set()
    async with asyncio.timeout(5):
        await leave(home, lambda event: None, hurry, leave_s=600.0)


def _never(event: Event) -> None:
    raise AssertionError(f"it said {event}")
