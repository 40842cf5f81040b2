"""A gateway worker's limits and log, without the gateway: ``python -m tests.gateway.billing.spender`` with a store's
URL, a prefix, a home and a name. It asks, runs and settles requests of all kinds until it is killed, and says when it
has reserved something that is counted in the store."""

from __future__ import annotations

import asyncio
import random
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from gateway.accounts import Account
from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.exchange import Exchange, Usage
from gateway.limits.limiter import Limiter
from gateway.limits.needs import used_by
from gateway.metering.recorder import Recorder
from models.home import Home
from models.store.client import connect_async
from models.store.keys import Keys
from models.store.tenancy import HouseRecord, PriceLine, PriceList
from tests.gateway.limits.stage import ROUTE, account, need, rule, take
from tests.gateway.metering.desk import Request

LINE = PriceLine(model="*", input_token=Decimal("0.000002"), output_token=Decimal("0.000005"), request=Decimal("0.001"))
HOUSE = HouseRecord(
    price_lists={"standard": PriceList(name="standard", lines=(LINE,))}, default_price_list="standard", key_limits=(),
    version=1,
)  # fmt: skip
AT_ONCE = 20


def caller() -> Account:
    """Its budgets are such that some requests are refused in the end."""
    limits = (rule("tokens", 400_000, "day"), rule("output_tokens", 10**7, "month", models="m*"))
    made = account(*limits, tenant=(rule("money", 2, "ever"), rule("requests", 10**6, "week")))
    return replace(made, house=HOUSE)


class Spender:
    def __init__(self, limiter: Limiter, recorder: Recorder, clock: Clock, name: str) -> None:
        self.limiter, self.recorder, self.clock = limiter, recorder, clock
        self.name, self.rng = name, random.Random(name)
        self.whose = caller()
        self.asked = 0

    async def ask_and_run(self) -> None:
        while True:
            self.asked += 1
            try:
                hold = await take(self.limiter, need(self.whose, 10, most=self.rng.randint(200, 4000)))
            except GatewayError as refused:
                await asyncio.sleep(min(0.05, refused.retry_after_s or 0.0))
                continue
            request = self.begin()
            long = self.rng.random() < 0.5
            if long:
                self.recorder.note(request, self.whose)
            usage = Usage(prompt=self.rng.randint(1, 90), completion=0)
            for _ in range(self.rng.randint(1, 30) if long else 1):
                await asyncio.sleep(self.rng.random() * 0.05)
                usage = replace(usage, completion=usage.completion + self.rng.randint(1, 3))
                if request.slot is not None:
                    request.slot.count(usage.prompt, usage.completion)
            failed = self.rng.random() < 0.1
            request.exchange.usage = None if failed else usage
            self.recorder.over(request, 502 if failed else 200, self.whose)
            self.limiter.settle(hold, used_by(request.exchange.usage, 0, 0, answered=not failed))

    def begin(self) -> Request:
        request = Request(
            Exchange(
                f"{self.name}-{self.asked}", "POST", "/v1/chat/completions", self.clock.monotonic(), key_id="k1",
                project="p", tenant="acme", model=ROUTE.model_id, endpoint="chat.completions", replica="m-1",
            ),
            self.whose,
        )  # fmt: skip
        request.exchange.status = 200  # its answer has begun
        request.from_s = self.clock.monotonic()
        return request


async def spend(url: str, prefix: str, home: str, name: str) -> None:
    clock = Clock()
    recorder = Recorder(Home(Path(home)), name, clock, room_bytes=0)
    async with connect_async(url) as redis:
        limiter = Limiter(redis, Keys(prefix), clock, name, lambda: 3)
        limiter.follow(lambda: recorder.written)
        spender = Spender(limiter, recorder, clock, name)
        tasks = [asyncio.create_task(limiter.run())]
        tasks += [asyncio.create_task(spender.ask_and_run()) for _ in range(AT_ONCE)]
        told = False
        while True:
            await asyncio.sleep(0.05)
            recorder.tick(())
            if not told and await redis.exists(Keys(prefix).limit_notes(name)):
                told = True
                print("spending", flush=True)


if __name__ == "__main__":
    asyncio.run(spend(*sys.argv[1:]))
