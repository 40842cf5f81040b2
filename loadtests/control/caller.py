"""``python -m loadtests.control.caller URL SERVING STOPPED...``: a gateway's side of the wakes that are measured.

Plays a worker whose SERVING first models are called all the time, and to which one call after the other comes for
stopped models. Prints a line each: the model, and CLOCK_MONOTONIC in seconds when the call came.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time

from gateway.clock import Clock
from gateway.demand import Demand
from gateway.routing import Routes
from gateway.sync import DemandPublisher
from models.store.client import connect_async
from models.store.keys import Keys
from packers.types import ModelId, ReplicaId

BUSY_EVERY_S = 0.05
BETWEEN_S = (0.03, 0.12)
HELD_S = 1.0


async def main(url: str, serving: list[str], stopped: list[str]) -> None:
    demand = Demand()
    news = asyncio.Event()
    demand.on_change = news.set
    redis, rng = connect_async(url), random.Random(1)
    publisher = DemandPublisher(redis, Keys(), "bench", demand, Routes(), Clock(), news)
    tasks = [asyncio.create_task(publisher.run()), asyncio.create_task(_be_busy(demand, serving))]
    await asyncio.sleep(1.0)
    for ticket, model in enumerate(stopped):
        await asyncio.sleep(rng.uniform(*BETWEEN_S))
        print(model, time.monotonic(), flush=True)
        demand.held(ModelId(model), ticket, time.time())
        asyncio.get_running_loop().call_later(HELD_S, demand.unheld, ModelId(model), ticket)
    await asyncio.sleep(HELD_S)
    for task in tasks:
        task.cancel()
    await redis.aclose()


async def _be_busy(demand: Demand, serving: list[str]) -> None:
    while True:
        now = time.time()
        for model in serving:
            demand.arrived(ModelId(model), now)
            demand.began(ModelId(model), ReplicaId(f"{model}-1"))
            demand.ended(ModelId(model), ReplicaId(f"{model}-1"), draining=False, now_unix_s=now, busy_s=0.01)
        await asyncio.sleep(BUSY_EVERY_S)


if __name__ == "__main__":
    first = int(sys.argv[2])
    asyncio.run(main(sys.argv[1], sys.argv[3 : 3 + first], sys.argv[3 + first :]))
