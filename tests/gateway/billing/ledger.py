"""A store with what gateways and the controller write, and a settler on it whose clock tests set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
from redis.asyncio import Redis

from gateway.billing.settler import Settler
from models.store.codec import encode
from models.store.keys import Keys
from models.store.rollups import read, read_gpus
from models.store.tenancy import HouseRecord, PriceLine, PriceList
from models.store.usage import (
    GpuPicture,
    OpenRequest,
    Run,
    SecondOfGpus,
    SettledEvent,
    UsageEvent,
    Watermark,
)
from tests.gateway.billing.gpu_worlds import T0

SECOND_US = 1_000_000
PRICES = PriceList(
    name="standard",
    lines=(
        PriceLine(
            model="*", input_token=Decimal("0.0000012"), cached_token=Decimal("0.0000003"),
            output_token=Decimal("0.0000047"), gpu_second=Decimal("0.00091"), gib_second=Decimal("0.0000113"),
            request=Decimal("0.00001"),
        ),
    ),
)  # fmt: skip
HOUSE = HouseRecord(price_lists={"standard": PRICES}, default_price_list="standard", version=3)


def event(
    name: str, replica: str, from_us: int, us: int, *, key: str = "k", worker: str = "w", **more: Any
) -> UsageEvent:
    given: dict[str, Any] = {
        "started_us": from_us - 500, "ended_us": from_us + us, "project": "p", "tenant": "t",
        "model": f"model-{replica}", "endpoint": "chat.completions", "status": 200,
        "prompt_tokens": 100, "cached_tokens": 20,
        "completion_tokens": 30, "runs": (Run(replica=replica, from_us=from_us, us=us),), "price_list": "standard",
    }  # fmt: skip
    return UsageEvent(id=name, key_id=key, worker=worker, **given | more)


class Ledger:
    def __init__(self, redis: Redis, keys: Keys) -> None:
        self.redis, self.keys = redis, keys
        self.now_us = T0

    def settler(self) -> Settler:
        return Settler(self.redis, self.keys, lambda: self.now_us / SECOND_US)

    async def house(self, house: HouseRecord = HOUSE) -> None:
        await self.redis.set(self.keys.house, encode(house))
        await self.redis.incr(self.keys.tenancy_version)

    async def pictures(self, pictures: Sequence[GpuPicture]) -> None:
        for one in pictures:
            await self.redis.xadd(self.keys.gpu_timeline, {"g": encode(one)})

    async def controller(self, at_us: int) -> None:
        """It says that this is all until then. The rest of what it writes is none of the meter's business."""
        await self.redis.set(self.keys.fleet, encode({"seq": 1, "updated_unix_s": at_us / SECOND_US, "nodes": []}))

    async def events(self, events: Sequence[UsageEvent]) -> None:
        for one in events:
            await self.redis.xadd(self.keys.usage_events, {"e": encode(one)})

    async def mark(self, until_us: int, worker: str = "w", opens: Sequence[OpenRequest] = ()) -> None:
        mark = Watermark(worker=worker, until_us=until_us, open=tuple(opens))
        await self.redis.hset(self.keys.usage_watermarks, worker, encode(mark))

    async def until(self, until_us: int, opens: Sequence[OpenRequest] = ()) -> None:
        """All that there is until then has been told."""
        self.now_us = until_us
        await self.controller(until_us)
        await self.mark(until_us, opens=opens)

    async def settled(self) -> list[SettledEvent]:
        found: Any = await self.redis.xrange(self.keys.usage_settled)
        return [msgspec.json.decode(fields[b"e"], type=SettledEvent) for _, fields in found]

    async def seconds(self) -> list[SecondOfGpus]:
        found: Any = await self.redis.xrange(self.keys.gpu_seconds)
        return [msgspec.json.decode(fields[b"g"], type=SecondOfGpus) for _, fields in found]

    async def totals(self, bucket: Any = "none") -> Counter[str]:
        """Of all that was ever added up."""
        last_s = self.now_us / SECOND_US
        rows = await read(self.redis, self.keys, T0 / SECOND_US - 9e4, last_s + 9e4, now_s=last_s, by=(), bucket=bucket)
        sums: Counter[str] = Counter()
        for row in rows:
            sums.update(row.sums)
        return sums

    async def gpu_totals(self, bucket: Any = "none") -> Counter[str]:
        last_s = self.now_us / SECOND_US
        rows = await read_gpus(self.redis, self.keys, T0 / SECOND_US - 9e4, last_s + 9e4, now_s=last_s, bucket=bucket)
        return Counter({row.group[0]: sum(one.sums["ns"] for one in rows if one.group == row.group) for row in rows})
