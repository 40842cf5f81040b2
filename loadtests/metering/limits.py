"""One worker's own work for each request: its limits, and its event."""

from __future__ import annotations

import asyncio
import time
import uuid
from decimal import Decimal
from pathlib import Path

from gateway.accounts import Accounts
from gateway.clock import Clock
from gateway.exchange import Exchange, Usage
from gateway.limits.limiter import Hold, Limiter
from gateway.limits.needs import Need, Used
from gateway.metering.metered import Metered
from gateway.metering.recorder import Recorder
from gateway.tenant_book import TenantBook
from models.home import Home
from models.store.client import connect_async
from models.store.keys import Keys
from models.store.records import KeyRecord, ModelRoute, ReplicaRoute
from models.store.tenancy import HouseRecord, LimitRule, TenantRecord, What

BATCH, BATCHES = 200, 50
RULES = (
    LimitRule(what=What.REQUESTS, amount=Decimal(10**9)),
    LimitRule(what=What.TOKENS, amount=Decimal(10**12)),
)
REPLICA = ReplicaRoute(replica_id="r", endpoint="unix:/r", state="ready", memory_bytes=1 << 30, gpu_share=0.25)
ROUTE = ModelRoute(model_id="m", replicas=(REPLICA,), max_model_len=8192)
KEY = KeyRecord(key_id="key_1", name="bench", scopes=("inference",), prefix="", created_unix_s=0.0)


class _Seat:
    def __init__(self) -> None:
        self.hold: asyncio.Future[Hold] = asyncio.get_running_loop().create_future()

    def granted(self, hold: Hold) -> None:
        self.hold.set_result(hold)

    def not_granted(self, error: Exception) -> None:
        self.hold.set_exception(error)


async def reserve_us(url: str, rules: int) -> float:
    """The best batch's mean: what others do on the machine is not part of it. ``rules``: 2 or 4."""
    house = HouseRecord(key_limits=RULES)
    tenant = TenantRecord(tenant_id="default", limits=RULES if rules > len(RULES) else ())
    book = TenantBook()
    book.offer(1, house, {"default": tenant})
    account = Accounts(book).of(KEY)
    async with connect_async(url) as redis:
        limiter = Limiter(redis, Keys(f"bench-{uuid.uuid4().hex[:8]}"), Clock(), "bench-worker")
        running = asyncio.create_task(limiter.run())
        try:
            best_s = float("inf")
            for _ in range(BATCHES):
                began_s, done = time.perf_counter(), 0
                while done < BATCH and (hold := limiter.reserve(need := _need(account))) is not None:
                    limiter.headers(account, ROUTE)
                    limiter.settle(hold, Used(24, 0, 48, 900, 250))
                    done += 1
                if done == BATCH:
                    best_s = min(best_s, time.perf_counter() - began_s)
                else:
                    seat = _Seat()
                    limiter.ask(need, seat)
                    limiter.settle(await seat.hold, Used(24, 0, 48, 900, 250))
                await asyncio.sleep(0.002)
        finally:
            running.cancel()
            await asyncio.wait((running,))
            await limiter.close()
    return best_s / BATCH * 1e6


def _need(account: object) -> Need:
    return Need(account, ROUTE, 150, 128, 600, 128)  # type: ignore[arg-type]


def event_us(folder: Path) -> float:
    """The best batch's mean."""
    recorder = Recorder(Home(folder / uuid.uuid4().hex[:8]), "bench-worker", Clock())
    best_s = float("inf")
    for _ in range(BATCHES):
        flights = [_flight(number) for number in range(BATCH)]
        began_s = time.perf_counter()
        for flight in flights:
            recorder.over(flight, 200, None)
        best_s = min(best_s, time.perf_counter() - began_s)
        recorder.tick(())
    recorder.close()
    return best_s / BATCH * 1e6


def _flight(number: int) -> Metered:
    flight = Metered()
    flight.exchange = exchange = Exchange(f"req_{number:032x}", "POST", "/v1/chat/completions", time.monotonic())
    exchange.key_id, exchange.tenant, exchange.project = "key_1", "default", "default"
    exchange.model, exchange.endpoint, exchange.replica = "m", "chat.completions", "r"
    exchange.usage, flight.from_s = Usage(24, 48, 0), exchange.started_s
    return flight
