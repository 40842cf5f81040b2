"""What meters say of themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from models.store import meters
from models.store.client import connect_async
from models.store.keys import Keys
from models.store.usage import MeterStatus

pytestmark = pytest.mark.anyio
NOW_S = 1_795_000_000.0


@pytest.fixture
async def redis(url: str) -> AsyncIterator[Redis]:
    client = connect_async(url)
    yield client
    await client.aclose()


def status(machine: str = "a", ago_s: float = 0.0, settled_ago_s: float = 2.0, **more: Any) -> MeterStatus:
    at_s = NOW_S - ago_s
    return MeterStatus(machine=machine, at_us=int(at_s * 1e6), settled_us=int((NOW_S - settled_ago_s) * 1e6), **more)


async def test_each_machine_has_its_own_and_old_ones_go(redis: Redis, keys: Keys) -> None:
    await meters.tell(redis, keys, status("old", ago_s=2 * meters.FORGOTTEN_S))
    await meters.tell(redis, keys, status("b"))
    await redis.hset(keys.usage_meters, "broken", b"{")
    await meters.tell(redis, keys, status("a"))
    assert [one.machine for one in await meters.read_async(redis, keys)] == ["a", "b"]


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (status(settles=True), []),
        (status(settles=True, settled_ago_s=90, waits_for="w7"), ["settled up to 90 s ago; the rest waits for w7"]),
        (status(settled_ago_s=90), []),
        (status(ago_s=45), ["the meter of a has said nothing for 45 s"]),
        (status(problem="shipping: disk"), ["waits, and nothing is lost meanwhile: shipping: disk"]),
        (status(lost_bytes=7), ["7 bytes of usage logs of a could not be read"]),
    ],
)
def test_what_operators_should_see_to(one: MeterStatus, said: list[str]) -> None:
    found = list(meters.problems([one], NOW_S))
    assert len(found) == len(said)
    assert all(words in text for words, text in zip(said, found, strict=True))
