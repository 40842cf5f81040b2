"""What a controller does before it decides anything: makes sure that the store is its own, and goes on where the last
one stopped."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from models.clock import SinceBoot, since_boot
from models.control.controller import Controller
from models.control.fence import in_time
from models.control.messages import Reported
from models.control.office import cluster_id
from models.control.recovery import recover
from models.control.store import RedisControlStore
from models.control.timeline import jumped_s, moved, past_moved
from models.fleet.protocol import Fleet
from models.store.codec import encode
from models.store.errors import StoreError
from models.store.inspection import check_keys, move_in
from models.store.keys import Keys
from models.store.records import ClusterRecord

log = logging.getLogger("roundhouse.control")
PATIENCE_S = 30.0
RETRY_S = 0.5
# Bits: where nobody knows how far counting had come, this is further than any controller before has counted.
VERSIONS_OF_AN_EPOCH = 32


class StoreAway(StoreError):
    """Redis did not answer for as long as a controller waits for it at its start."""


async def move_into_store(
    redis: Redis, keys: Keys, id_file: Path, now: float, patience_s: float = PATIENCE_S, retry_s: float = RETRY_S
) -> None:
    """Wait until Redis answers, then make sure that nobody else keeps anything under these keys.

    Raises KeysTaken, StoreAway, OSError.
    """
    own = ClusterRecord(cluster_id=cluster_id(id_file), host=socket.gethostname(), since_unix_s=now)
    problem = ""
    try:
        async with asyncio.timeout(patience_s):
            while True:
                try:
                    async with in_time():
                        await check_keys(redis, keys)
                        return await move_in(redis, keys, own, encode(own))
                except RedisError as down:
                    if not problem:
                        log.warning("waiting for Redis: %s", down)
                    problem = str(down)
                    if isinstance(down, ResponseError) and "denied" in problem.lower():
                        break
                await asyncio.sleep(retry_s)
    except TimeoutError:
        pass
    raise StoreAway(
        f"Redis cannot be used: {problem or 'it does not answer'}; start it, or correct ROUNDHOUSE_REDIS_URL"
    )


async def take_over(
    controller: Controller, store: RedisControlStore, fleet: Fleet, now: float, machine: SinceBoot | None = None
) -> int:
    """Go on where the last controller stopped, whatever was done to clocks and to the store since: how many replicas
    were adopted. To be called once in office. Raises RedisError."""
    world = controller.world
    before = await store.load()
    past = await store.recall()
    jump_s = jumped_s(before, now, machine or since_boot()) if before is not None else 0.0
    if jump_s:
        log.warning("clocks were set by %+.0f s since the last controller wrote its state", jump_s)
    for report in await store.all_demand():
        controller.post(Reported(report))
    if past is not None:
        world.history.recall(past_moved(past, jump_s), now)
        world.history.keep(world.revision(entry) for entry in world.entries.values())
    adopted = await recover(controller, fleet, None if before is None else moved(before, jump_s), now)
    if before is not None and not adopted and before.boot != (machine or since_boot()).boot:
        world.occupancy.was_off(before.updated_unix_s)
    if before is None and adopted:
        # Gateways route to these, and may have more to say of them than the store knows.
        log.warning("the store knows of no controller before this one, yet %d engines live", adopted)
        controller.senses.doubt(now)
        world.routes_version = store.epoch << VERSIONS_OF_AN_EPOCH
    return adopted
