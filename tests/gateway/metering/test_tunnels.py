"""A WebSocket is one request: its time on its replica is metered from the first moment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from gateway.metering.reader import spools
from models.store.usage import UsageEvent
from tests.gateway.metering.desk import all_of
from tests.gateway.plane.test_tunnel import Socket, dial, engine_in, greeted, refusal
from tests.gateway.world import World, until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def engine(world: World) -> AsyncIterator[Socket]:
    async with AsyncExitStack() as stack:
        yield await engine_in(world, stack, "r1", "m")


def events(world: World) -> list[UsageEvent]:
    (spool,) = spools(world.home)
    return all_of(spool)


async def test_it_is_open_and_then_it_is_over(world: World, engine: Socket) -> None:
    (spool,) = spools(world.home)
    async with dial(world) as socket:
        await greeted(socket)
        (open_one,) = spool.look().watermark.open
        assert (open_one.replica, open_one.model, open_one.runs) == ("r1", "m", ())
        assert events(world) == []
    await until(lambda: events(world))
    (event,) = events(world)
    assert (event.id, event.status, event.endpoint, event.stream) == (open_one.id, 101, "realtime", True)
    (run,) = event.runs
    assert (run.replica, run.from_us) == ("r1", open_one.from_us)
    assert run.us > 0
    assert spool.look().watermark.open == ()


async def test_a_refused_one_has_an_event_before_its_caller_knows(world: World, engine: Socket) -> None:
    status, _ = await refusal(world, "nope")
    (event,) = events(world)
    assert (status, event.status, event.code, event.runs) == (404, 404, "model_not_found", ())
    await refusal(world, additional_headers={"authorization": "Bearer nonsense"})
    assert len(events(world)) == 1, "strangers are not metered"
