"""Webhooks in a process of their own, to be killed: Redis' URL and the keys' prefix are its arguments."""

from __future__ import annotations

import asyncio
import sys

from gateway.billing.deliveries import Deliveries
from gateway.billing.outbound import Poster
from gateway.billing.webhooks import Webhooks
from gateway.clock import Clock
from models.store.client import connect_async
from models.store.codec import load_async
from models.store.keys import Keys
from models.store.tenancy import HouseRecord


async def main(url: str, prefix: str) -> None:
    redis, keys = connect_async(url), Keys(prefix)

    async def house() -> HouseRecord:
        return await load_async(redis, keys.house, HouseRecord) or HouseRecord()

    webhooks = Webhooks(Deliveries(redis, keys), Poster(), house, Clock(), claim_s=0.5)
    print("ready", flush=True)
    await webhooks.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
