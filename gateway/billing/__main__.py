"""``python -m gateway.billing``: the meter of this machine (``gateway.billing.process``)."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import signal
import sys
from typing import TYPE_CHECKING

from gateway import logs
from models.home import Home, node_name
from models.store.client import connect_async, keys_from, redis_url
from models.store.errors import StoreSettingError

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from gateway.billing.outbound import Poster
    from gateway.billing.process import Meter, Task
    from gateway.billing.sink import Sink
    from gateway.clock import Clock
    from models.store.keys import Keys

LOOK_S = 1.0


def main() -> int:
    """Exit 0 when it was told to end, 1 when it cannot write to its folder, 2 for wrong settings."""
    parser = argparse.ArgumentParser(prog="python -m gateway.billing", description=__doc__)
    parser.add_argument("--home", help="state folder (default: ROUNDHOUSE_HOME or .roundhouse)")
    home = Home.find(parser.parse_args().home)
    logs.configure()
    try:
        url, keys = redis_url(home), keys_from()
        return asyncio.run(_run(home, url, keys))
    except StoreSettingError as wrong:
        sys.stderr.write(f"roundhouse: {wrong}\n")
        return 2
    except OSError as problem:
        sys.stderr.write(f"roundhouse: the meter cannot use {home.spool}: {problem}\n")
        return 1


async def _run(home: Home, url: str, keys: Keys) -> int:
    """Raises StoreSettingError, OSError."""
    from gateway.billing.books import SETTLED_MAX
    from gateway.billing.outbound import Poster
    from gateway.billing.process import Meter
    from gateway.billing.sink import sink_from
    from gateway.clock import Clock

    stopping = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    redis, poster, clock = connect_async(url), Poster(), Clock()
    machine = f"{node_name()}-{home.instance[:6]}"
    sink = sink_from(redis, keys, clock.steady)
    others = _others(redis, keys, clock, poster, sink)
    token = f"{machine} {os.getpid()} {secrets.token_hex(8)}"
    kept = sink.kept if sink is not None else lambda: SETTLED_MAX
    meter = Meter(redis, keys, home, machine, clock, token, others, kept)
    try:
        await _when_alone(meter, home, stopping)
    finally:
        await poster.close()
        await redis.aclose()
    return 0


async def _when_alone(meter: Meter, home: Home, stopping: asyncio.Event) -> None:
    from gateway.billing.process import alone

    while not stopping.is_set():
        with alone(home.spool) as free:
            if free:
                sys.stderr.write("meter ready\n")
                await meter.run(stopping)
                return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), LOOK_S)


def _others(redis: Redis, keys: Keys, clock: Clock, poster: Poster, sink: Sink | None) -> tuple[Task, ...]:
    """What is done besides where the lease is."""
    from gateway.billing.anomaly_watch import AnomalyWatch
    from gateway.billing.deliveries import Deliveries
    from gateway.billing.webhooks import Webhooks
    from models.store.codec import load_async
    from models.store.tenancy import HouseRecord

    async def house() -> HouseRecord:
        return await load_async(redis, keys.house, HouseRecord) or HouseRecord()

    webhooks = Webhooks(Deliveries(redis, keys), poster, house, clock)
    others: list[Task] = [webhooks.run, AnomalyWatch(redis, keys, clock.steady).run]
    return tuple([*others, sink.run] if sink is not None else others)


if __name__ == "__main__":
    sys.exit(main())
