"""What the admin API reads from Redis: the controller's records, the workers' reports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from gateway.billing.deliveries import Deliveries
from gateway.errors import ControllerUnavailable, StoreUnavailable
from models.store.codec import decode, load_async
from models.store.errors import StoreDataError
from models.store.keys import Keys
from models.store.records import ControlMeters, DemandReport, FleetRecord, ModelDemand, ModelRecord

TIMEOUT_S = 2.0
METERS_TIMEOUT_S = 0.5


@asynccontextmanager
async def asking_redis(timeout_s: float = TIMEOUT_S) -> AsyncIterator[None]:
    """Turns whatever Redis fails with into StoreUnavailable, and also what lies there and cannot be read."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except StoreDataError as broken:
        raise StoreUnavailable(f"{broken}; `roundhouse doctor` says more.", retry_after_s=1) from broken
    except ResponseError as wrong:
        raise StoreUnavailable(f"Redis refuses: {wrong}; `roundhouse doctor` says more.", retry_after_s=1) from wrong
    except (RedisError, OSError, TimeoutError) as down:
        raise StoreUnavailable("Redis does not answer; try again.", retry_after_s=1) from down


class State:
    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def fleet(self) -> FleetRecord:
        """Raises ControllerUnavailable when no controller ever wrote, StoreUnavailable."""
        fleet = await self.fleet_if_any()
        if fleet is None:
            raise ControllerUnavailable("The controller has not written its state yet; is it running? Try again.")
        return fleet

    async def fleet_if_any(self) -> FleetRecord | None:
        async with asking_redis():
            return await load_async(self._redis, self._keys.fleet, FleetRecord)

    async def catalog(self) -> tuple[ModelRecord, ...]:
        async with asking_redis():
            return await load_async(self._redis, self._keys.catalog, tuple[ModelRecord, ...]) or ()

    async def demand(self) -> dict[str, ModelDemand]:
        """Model -> what all live workers see of it together."""
        async with asking_redis():
            names = [name async for name in self._redis.scan_iter(match=self._keys.demand_pattern)]
            raws = await self._redis.mget(names) if names else []
        total: dict[str, ModelDemand] = {}
        for raw in raws:
            with suppress(StoreDataError):  # the controller complains of it; all others count
                report = None if raw is None else decode(raw, DemandReport, "a demand report")
                for model, part in report.models.items() if report else ():
                    total[model] = _together(total.get(model), part)
        return total

    async def meters_if_any(self, timeout_s: float = METERS_TIMEOUT_S) -> ControlMeters | None:
        """What the controller counts; None while there is none, or nobody can be asked."""
        try:
            async with asking_redis(timeout_s):
                return await load_async(self._redis, self._keys.meters, ControlMeters)
        except (StoreUnavailable, StoreDataError):
            return None

    async def webhooks_if_any(self, timeout_s: float = METERS_TIMEOUT_S) -> tuple[int, Mapping[str, int]] | None:
        """How many deliveries are open, and how many came to what; None while nobody can be asked."""
        try:
            async with asking_redis(timeout_s):
                return await Deliveries(self._redis, self._keys).figures()
        except StoreUnavailable:
            return None

    async def fleet_and_catalog_if_any(
        self, timeout_s: float = METERS_TIMEOUT_S
    ) -> tuple[FleetRecord | None, tuple[ModelRecord, ...]]:
        """What the controller wrote last; nothing while there is nothing, or nobody can be asked."""
        try:
            async with asking_redis(timeout_s):
                fleet = await load_async(self._redis, self._keys.fleet, FleetRecord)
                return fleet, await load_async(self._redis, self._keys.catalog, tuple[ModelRecord, ...]) or ()
        except (StoreUnavailable, StoreDataError):
            return None, ()

    async def snapshot(self) -> bytes:
        """What the controller showed last. Raises ControllerUnavailable, StoreUnavailable."""
        async with asking_redis():
            line = await self._redis.get(self._keys.snapshot)
        if line is None:
            raise ControllerUnavailable("The controller has decided nothing yet; try again.")
        return line.encode() if isinstance(line, str) else line

    async def recording(self, after: str, limit: int) -> list[tuple[str, int, str]]:
        """(stream id, number, line), oldest first."""
        async with asking_redis():
            entries: Any = await self._redis.xrange(self._keys.recording, min=f"({after}", count=limit)
        return [(entry_id.decode(), int(fields[b"n"]), fields[b"l"].decode()) for entry_id, fields in entries]

    async def recording_end(self) -> str:
        """The id of its last line."""
        async with asking_redis():
            entries: Any = await self._redis.xrevrange(self._keys.recording, count=1)
        return entries[0][0].decode() if entries else "0-0"


def _together(one: ModelDemand | None, other: ModelDemand) -> ModelDemand:
    if one is None:
        return other
    oldest = [since for since in (one.oldest_held_unix_s, other.oldest_held_unix_s) if since is not None]
    return ModelDemand(
        in_flight=one.in_flight + other.in_flight,
        held=one.held + other.held,
        oldest_held_unix_s=min(oldest, default=None),
        last_request_unix_s=max(one.last_request_unix_s, other.last_request_unix_s),
        arrived=one.arrived + other.arrived,
        finished=one.finished + other.finished,
        busy_s=one.busy_s + other.busy_s,
    )
