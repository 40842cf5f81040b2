"""A worker of its own process that takes tokens as fast as it can: ``python -m tests.gateway.limits.racer`` with a
store's URL, a prefix, a name, how many tokens there are, when to begin (Unix seconds) and for how long to try. A line
for each that it got, at once, so that nothing is unknown when it is killed."""

from __future__ import annotations

import asyncio
import random
import sys
import time

from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.limits.limiter import Limiter
from models.store.client import connect_async
from models.store.keys import Keys
from tests.gateway.limits.stage import account, need, rule, take, used


async def race(url: str, prefix: str, name: str, amount: int, begin_unix_s: float, for_s: float) -> None:
    rng = random.Random(name)
    whose = account(rule("tokens", amount, "day"))
    async with connect_async(url) as redis:
        limiter = Limiter(redis, Keys(prefix), Clock(), name, lambda: 8)
        running = asyncio.ensure_future(limiter.run())
        await asyncio.sleep(begin_unix_s - time.time())
        until_s = time.monotonic() + for_s
        while time.monotonic() < until_s:
            tokens = rng.randint(1, 9)
            try:
                hold = await take(limiter, need(whose, tokens))
            except GatewayError as refused:
                await asyncio.sleep(min(0.02, refused.retry_after_s or 0.0))
                continue
            if rng.random() < 0.2:  # it comes to nothing
                limiter.settle(hold, used(0))
                continue
            print(tokens, flush=True)
            await asyncio.sleep(0.005)
            if rng.random() < 0.5:
                limiter.settle(hold, used(tokens))
        running.cancel()
        await asyncio.wait((running,))
        await limiter.close()


if __name__ == "__main__":
    asyncio.run(race(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), *map(float, sys.argv[5:])))
