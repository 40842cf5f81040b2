"""All of the GPUs' time is somebody's: busy, idle, starting and free add up to the wall clock, to the nanosecond.

Requests run on two GPUs behind a real gateway while replicas start, sleep, wake and go; the meter is killed on the way.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import msgspec
import pytest

from models.store.usage import GpuPicture, Phase, SecondOfGpus, Use
from tests.gateway.tenancy.city import MICRO, City, bearer, chat
from tests.gateway.tenancy.conftest import Founding

pytestmark = [pytest.mark.anyio, pytest.mark.chaos]
LENGTHS = [pytest.param(5.0), pytest.param(60.0, marks=pytest.mark.long)]
SECOND_NS = 10**9


async def replicas_come_and_go(city: City, rng: random.Random, for_s: float) -> None:
    """The second model of each GPU: not there, starting, serving, asleep, stopping. The first one stays."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + for_s
    while loop.time() < until_s:
        number = rng.randrange(2)
        other = []
        phase = rng.choice([None, *Phase])
        if phase is not None:
            size = rng.randrange(1, 1 << 29) if phase is Phase.ASLEEP else 1 << 29
            other = [city.occupant("other", number, phase, size)]
        city.show(f"g{number}", city.occupant("m", number), *other)
        await asyncio.sleep(rng.uniform(0.05, 0.6))


async def callers(city: City, key: str, rng: random.Random, for_s: float) -> int:
    """Busy for a while, then idle. How many asked."""
    loop = asyncio.get_running_loop()
    until_s, asked = loop.time() + for_s, 0
    async with city.client() as client:

        async def one() -> None:
            how = {"work_s": rng.choice([0.0, 0.1, 0.7]), "every_s": 0.002}
            body = chat(rng.choice(["m", "other"]), rng.choice([1, 20]), how=how, stream=rng.random() < 0.5)
            async with client.post("/v1/chat/completions", json=body, headers=bearer(key)) as answer:
                await answer.read()
                assert answer.status == 200

        while loop.time() < until_s:
            burst = rng.randint(1, 12)
            asked += burst
            await asyncio.gather(*(one() for _ in range(burst)))
            await asyncio.sleep(rng.choice([0.0, 0.0, 0.8]))
    return asked


@pytest.mark.parametrize("for_s", LENGTHS)
async def test_every_nanosecond_is_somebodys(found: Founding, for_s: float) -> None:
    rng = random.Random(5)
    city = await found(engines=2, models=("m", "other"))
    key = await city.make_key()

    async def kill_the_meter() -> None:
        await asyncio.sleep(for_s / 2)
        city.kill_meters()
        city.start_meter()

    asked, *_ = await asyncio.gather(
        callers(city, key, rng, for_s), replicas_come_and_go(city, rng, for_s), kill_the_meter()
    )
    await city.until_settled(asked)
    events = await city.settled()
    assert len(events) == asked
    hours, seconds = await frozen(city)
    by_second = Counter[str]()
    for second in seconds:
        for row in second.rows:
            by_second[row[1]] += row[-1]
    wall_ns = sum(there_ns(city.pictures, gpu, seconds) for gpu in ("g0", "g1"))
    print(
        f"GPU time over {len(seconds)} s: "
        + ", ".join(f"{use} {hours[use] / 1e9:.6f}" for use in Use)
        + f"; sum {sum(hours.values())} ns, wall clock x GPUs {wall_ns} ns; events' {sum(e.gpu_ns for e in events)} ns"
    )
    assert all(hours[use] > 0 for use in Use)
    assert sum(hours.values()) == wall_ns
    assert by_second == hours
    whole = seconds[1:]  # in the first one they came
    assert {sum(row[-1] for row in second.rows) for second in whole} == {2 * SECOND_NS}
    assert [one.at_unix_s for one in seconds] == list(range(seconds[0].at_unix_s, seconds[-1].at_unix_s + 1))
    assert sum(one.gpu_ns for one in events) == hours[Use.BUSY]


async def frozen(city: City) -> tuple[Counter[str], list[SecondOfGpus]]:
    """Both views of one moment: the meter does nothing while they are read."""
    city.kill_meters()
    found: Any = await city.redis.xrange(city.keys.gpu_seconds)
    seconds = [msgspec.json.decode(fields[b"g"], type=SecondOfGpus) for _, fields in found]
    assert await city.gpu_totals("day") == await city.gpu_totals("hour")
    return await city.gpu_totals("hour"), seconds


def there_ns(pictures: list[GpuPicture], gpu: str, seconds: list[SecondOfGpus]) -> int:
    """From its first picture to the end of the last second."""
    first_us = min(one.at_us for one in pictures if one.gpu == gpu)
    return ((seconds[-1].at_unix_s + 1) * MICRO - first_us) * 1000
