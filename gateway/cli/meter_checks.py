"""What ``roundhouse doctor`` looks at of metering: whether what is used is shipped and settled."""

from __future__ import annotations

import time

from gateway.cli.checks import Check
from models.home import Home


def metering(home: Home) -> Check:
    """Needs a store that answers; that it does not is another check's to say."""
    from redis import RedisError

    from gateway.service import record
    from models.store import meters
    from models.store.client import connect, keys_from, redis_url
    from models.store.errors import StoreError

    running = record.running(home)
    if running is None or all(part.name != "gateway" for part in running.parts):
        return Check(name="metering", verdict="ok", found="known once a gateway runs here")
    try:
        with connect(redis_url(home)) as client:
            found = meters.read(client, keys_from())
    except (RedisError, StoreError):
        return Check(name="metering", verdict="ok", found="known once Redis answers; until then usage waits on disk")
    if not found:
        cure = f"{home.logs / 'meter.log'} says why"
        return Check(name="metering", verdict="warn", found="no meter runs: what is used is not billed", cure=cure)
    now_s = time.time()
    problems = list(meters.problems(found, now_s))
    if problems:
        cure = "docs/operations.md; `roundhouse logs meter`"
        return Check(name="metering", verdict="warn", found="; ".join(problems), cure=cure)
    settled_us = max(meter.settled_us for meter in found)
    age = f"settled up to {max(0.0, now_s - settled_us / 1e6):.0f} s ago" if settled_us else "nothing settled yet"
    return Check(name="metering", verdict="ok", found=f"{len(found)} meter{'s' * (len(found) != 1)}, {age}")
