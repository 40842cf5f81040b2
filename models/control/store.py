"""The controller's side of Redis. Every write carries the fencing token: one that lost its lease writes nothing."""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Protocol

import msgspec
from redis.asyncio import Redis

from models.control.history import Remembered
from models.control.recording import Line, Step, encode_line
from models.store.keys import (
    DECISIONS_MAX,
    METERS_TTL_S,
    RECORDING_BYTES_MAX,
    RECORDING_TTL_S,
    REPLY_TTL_S,
    SNAPSHOT_TTL_S,
    Keys,
)
from models.store.records import (
    CommandReply,
    ControlMeters,
    DecisionRecord,
    DemandReport,
    FleetRecord,
    ModelRecord,
    RouteTable,
)

log = logging.getLogger("roundhouse.control")
LEASE_MS = 10_000

# KEYS: lease, fleet, routes, catalog, decisions, routes channel.
# ARGV: token, lease ms, fleet, routes, catalog, version, decisions max, decisions...
_WRITE = """
local holder = redis.call('get', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('set', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('set', KEYS[2], ARGV[3])
redis.call('set', KEYS[4], ARGV[5])
for i = 8, #ARGV do
  redis.call('xadd', KEYS[5], 'MAXLEN', '~', ARGV[7], '*', 'd', ARGV[i])
end
redis.call('set', KEYS[3], ARGV[4])
redis.call('publish', KEYS[6], ARGV[6])
return 1
"""


class LeaseLost(Exception):
    """Another controller writes now; this one must stop."""


class ControlStore(Protocol):
    """Where the loop keeps its state; tests record, production writes to Redis."""

    async def load(self) -> FleetRecord | None: ...

    async def write(
        self,
        fleet: FleetRecord,
        routes: RouteTable,
        catalog: tuple[ModelRecord, ...],
        decisions: tuple[DecisionRecord, ...],
    ) -> None:
        """All or nothing. Raises LeaseLost."""

    async def reply(self, reply: CommandReply) -> None: ...

    async def recall(self) -> Remembered | None:
        """What an earlier controller knew of the past; None when there was none, or it wrote something else."""

    async def remember(self, past: Remembered) -> None: ...

    async def meter(self, meters: ControlMeters) -> None:
        """What the controller counts, for whoever scrapes a gateway."""

    async def show(self, step: Step) -> None:
        """What was decided last and from what, for whoever asked to see it."""

    async def record(self, lines: tuple[Line, ...]) -> None:
        """Lines of a recording that is going on."""


class RedisControlStore:
    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._token = uuid.uuid4().hex
        self._recorded = 0
        self._script = redis.register_script(_WRITE)

    async def take_lease(self) -> None:
        """Become the one writer. Ray keeps one controller actor; an older one finds its token replaced."""
        await self._redis.set(self._keys.controller_lease, self._token, px=LEASE_MS)

    async def load(self) -> FleetRecord | None:
        raw = await self._redis.get(self._keys.fleet)
        return None if raw is None else msgspec.json.decode(raw, type=FleetRecord)

    async def write(
        self,
        fleet: FleetRecord,
        routes: RouteTable,
        catalog: tuple[ModelRecord, ...],
        decisions: tuple[DecisionRecord, ...],
    ) -> None:
        keys = self._keys
        encode = msgspec.json.encode
        written = await self._script(
            keys=[
                keys.controller_lease,
                keys.fleet,
                keys.routes,
                keys.catalog,
                keys.decisions,
                keys.routes_channel,
            ],
            args=[
                self._token,
                LEASE_MS,
                encode(fleet),
                encode(routes),
                encode(catalog),
                routes.version,
                DECISIONS_MAX,
                *(encode(decision) for decision in decisions),
            ],
        )
        if not written:
            raise LeaseLost("another controller holds the lease")

    async def reply(self, reply: CommandReply) -> None:
        key = self._keys.reply(reply.id)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.rpush(key, msgspec.json.encode(reply))
            pipe.expire(key, REPLY_TTL_S)
            await pipe.execute()

    async def recall(self) -> Remembered | None:
        raw = await self._redis.get(self._keys.history)
        try:
            return None if raw is None else msgspec.json.decode(raw, type=Remembered)
        except msgspec.MsgspecError as problem:
            log.warning("what the last controller knew of the past cannot be read: %s", problem)
            return None

    async def remember(self, past: Remembered) -> None:
        await self._redis.set(self._keys.history, await asyncio.to_thread(msgspec.json.encode, past))

    async def meter(self, meters: ControlMeters) -> None:
        await self._redis.set(self._keys.meters, msgspec.json.encode(meters), ex=METERS_TTL_S)

    async def show(self, step: Step) -> None:
        line = await asyncio.to_thread(encode_line, step)
        await self._redis.set(self._keys.snapshot, line, ex=SNAPSHOT_TTL_S)

    async def record(self, lines: tuple[Line, ...]) -> None:
        written = await asyncio.to_thread(lambda: [encode_line(line) for line in lines])
        key = self._keys.recording
        most = max(1, RECORDING_BYTES_MAX // max(map(len, written)))
        async with self._redis.pipeline(transaction=False) as pipe:
            for line in written:
                self._recorded += 1
                pipe.xadd(key, {"l": line, "n": self._recorded}, maxlen=most, approximate=False)
            pipe.expire(key, RECORDING_TTL_S)
            await pipe.execute()

    async def demand(self, worker: str) -> DemandReport | None:
        raw = await self._redis.get(self._keys.demand(worker))
        return None if raw is None else msgspec.json.decode(raw, type=DemandReport)

    async def all_demand(self) -> list[DemandReport]:
        names = [name async for name in self._redis.scan_iter(match=self._keys.demand_pattern)]
        raws = await self._redis.mget(names) if names else []
        return [msgspec.json.decode(raw, type=DemandReport) for raw in raws if raw is not None]
