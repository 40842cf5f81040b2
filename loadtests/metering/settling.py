"""Many events, as gateways ship them, and a meter that settles them."""

from __future__ import annotations

import random
import time
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from redis.asyncio import Redis

from gateway.billing.settler import Settler
from models.store.client import connect_async
from models.store.codec import encode
from models.store.keys import Keys
from models.store.tenancy import HouseRecord, PriceLine, PriceList
from models.store.usage import GpuPicture, Occupant, Phase, Run, UsageEvent, Watermark

BEGAN_US = 1_795_000_000_000_000
EVERY_US = 50  # 20,000 requests a second
GPUS, ON_EACH = 8, 3
MEMORY_BYTES = 80 << 30
PRICES = PriceList(
    name="standard",
    lines=(PriceLine(model="*", input_token=Decimal("0.0000012"), output_token=Decimal("0.0000047"),
                     gpu_second=Decimal("0.00091")),),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mix:
    """``scattered``: each request is of any key and on any replica; else a key calls three models."""

    name: str
    keys: int
    tenants: int
    scattered: bool


@dataclass(frozen=True, slots=True)
class Settling:
    per_core_s: float
    per_wall_s: float
    redis_s: float  # of its processor, for 10,000 events
    script_ms: float  # the longest


async def settle(url: str, mix: Mix, events: int) -> Settling:
    keys = Keys(f"bench-{uuid.uuid4().hex[:8]}")
    async with connect_async(url) as redis:
        await _write(redis, keys, mix, events)
        end_us = BEGAN_US + events * EVERY_US + 2_000_000
        await redis.set(keys.fleet, encode({"seq": 1, "updated_unix_s": end_us / 1e6, "nodes": []}))
        await redis.hset(keys.usage_watermarks, "w", encode(Watermark(worker="w", until_us=end_us)))
        settler = Settler(redis, keys, lambda: end_us / 1e6)
        await redis.config_set("slowlog-log-slower-than", 0)
        await redis.slowlog_reset()
        before, longest_us = await redis.info("cpu"), 0
        core_s, wall_s = time.process_time(), time.perf_counter()
        while await settler.step():
            pass
        core_s, wall_s = time.process_time() - core_s, time.perf_counter() - wall_s
        after: Any = await redis.info("cpu")
        longest_us = max((entry["duration"] for entry in await redis.slowlog_get(128)), default=0)
        redis_s = _cpu_s(after) - _cpu_s(before)
        await redis.flushdb()
    if settler.settled != events:
        raise RuntimeError(f"{settler.settled} of {events} events were settled")
    return Settling(events / core_s, events / wall_s, redis_s / events * 10_000, longest_us / 1000)


def _cpu_s(info: Any) -> float:
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


async def _write(redis: Redis, keys: Keys, mix: Mix, events: int) -> None:
    await redis.set(keys.house, encode(HouseRecord(price_lists={"standard": PRICES}, default_price_list="standard")))
    await redis.incr(keys.tenancy_version)
    for gpu in range(GPUS):
        await redis.xadd(keys.gpu_timeline, {"g": encode(_picture(gpu))})
    rng = random.Random(1)
    pipe = redis.pipeline(transaction=False)
    for number in range(events):
        pipe.xadd(keys.usage_events, {"e": encode(_event(mix, rng, number))})
        if number % 5000 == 4999:
            await pipe.execute()
    await pipe.execute()


def _picture(gpu: int) -> GpuPicture:
    occupants = tuple(
        Occupant(replica=f"m{gpu}-{one}", model=f"model-{gpu}-{one}", owner="pool", bytes=MEMORY_BYTES // 4,
                 phase=Phase.SERVING)
        for one in range(ON_EACH)
    )  # fmt: skip
    return GpuPicture(
        at_us=BEGAN_US, gpu=f"g{gpu}", node="n", pool="owned", memory_bytes=MEMORY_BYTES, simulated=True, present=True,
        occupants=occupants,
    )  # fmt: skip


def _event(mix: Mix, rng: random.Random, number: int) -> UsageEvent:
    key = rng.randrange(mix.keys) if mix.scattered else number % mix.keys
    gpu, one = (rng.randrange(GPUS) if mix.scattered else key % GPUS), rng.randrange(ON_EACH)
    from_us, us = BEGAN_US + number * EVERY_US, rng.randrange(50_000, 400_000)
    return UsageEvent(
        id=f"req-{number:032x}", started_us=from_us - 500, ended_us=from_us + us, key_id=f"key{key}", project="p",
        tenant=f"t{key % mix.tenants}", model=f"model-{gpu}-{one}", endpoint="chat.completions", status=200,
        prompt_tokens=100, cached_tokens=20, completion_tokens=30, price_list="standard", worker="w",
        runs=(Run(replica=f"m{gpu}-{one}", from_us=from_us, us=us),),
    )  # fmt: skip
