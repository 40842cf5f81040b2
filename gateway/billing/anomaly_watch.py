"""Looks at what keys use, each minute, and tells of those that use unusually much: once a day for each key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.billing.anomalies import DAYS, HOUR_S, HOURS_IN_DAY, Anomaly, KeyUse, anomalies, by_key, words
from models.store.alerts import ALERTS_MAX, FIELD, Alert, Kind
from models.store.codec import decode, encode, load_async
from models.store.errors import StoreDataError
from models.store.keys import Keys
from models.store.rollups import Row, hour_of, read
from models.store.tenancy import HouseRecord

LOOK_S = 60.0
AGAIN_S = HOURS_IN_DAY * HOUR_S
FORGET_S = DAYS * HOURS_IN_DAY * HOUR_S
LATE_HOURS = 2  # in which something may still be added
_GROUP = ("tenant", "project", "key")

# KEYS: anomalies, alerts. ARGV: key, what was there, what is to be, alert ("": none), its field, the most alerts.
_NOTE = """
if (redis.call('hget', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('hset', KEYS[1], ARGV[1], ARGV[3])
if ARGV[4] ~= '' then redis.call('xadd', KEYS[2], 'MAXLEN', '~', ARGV[6], '*', ARGV[5], ARGV[4]) end
return 1
"""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class AnomalyWatch:
    """``clock``: steady Unix seconds. Two that look at once tell once."""

    redis: Redis
    keys: Keys
    clock: Callable[[], float]
    _hours: dict[int, dict[str, KeyUse]] = field(default_factory=dict)  # since 1970 -> key -> what it used

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                await self.look()
            except (RedisError, OSError, StoreDataError) as problem:
                log.warning("what keys use cannot be looked at", reason=str(problem))
            await asyncio.sleep(LOOK_S)

    async def look(self) -> list[Anomaly]:
        """Those that were told of now. Raises redis.RedisError, StoreDataError."""
        now_s = self.clock()
        hour = int(now_s) // HOUR_S
        await self._read(hour, now_s)
        found = anomalies(self._hours.get(hour, {}), self._hours, hour)
        noted = await self._noted()
        told = [each for each in found if await self._note(each, noted.get(each.key_id), now_s)]
        old = [key_id for key_id, (_, each) in noted.items() if each.hour < now_s - FORGET_S]
        if old:
            await self.redis.hdel(self.keys.usage_anomalies, *old)
        return told

    async def _read(self, hour: int, now_s: float) -> None:
        """Hours that are over for good are read once."""
        first = hour - DAYS * HOURS_IN_DAY
        begin = max(first, hour - LATE_HOURS) if self._hours and max(self._hours) >= hour - LATE_HOURS else first
        rows = await read(
            self.redis, self.keys, begin * HOUR_S, now_s + 1, now_s=now_s, by=_GROUP, bucket="hour"
        )  # fmt: skip
        by_hour: dict[str, list[Row]] = {}
        for row in rows:
            by_hour.setdefault(row.at, []).append(row)
        for at in range(begin, hour + 1):
            rows_then = by_hour.get(hour_of(at * HOUR_S), ())
            self._hours[at] = by_key((tenant, project, key, sums) for _, (tenant, project, key), sums in rows_then)
        for at in [at for at in self._hours if at < first]:
            del self._hours[at]

    async def _noted(self) -> dict[str, tuple[bytes, Anomaly]]:
        raws: Any = await self.redis.hgetall(self.keys.usage_anomalies)
        name = self.keys.usage_anomalies
        return {key_id.decode(): (raw, decode(raw, Anomaly, name)) for key_id, raw in raws.items()}

    async def _note(self, anomaly: Anomaly, before: tuple[bytes, Anomaly] | None, now_s: float) -> bool:
        """Whether webhooks are told of it now."""
        old, last_told = (b"", 0) if before is None else (before[0], before[1].told)
        tell = anomaly.hour >= last_told + AGAIN_S
        new = encode(msgspec.structs.replace(anomaly, told=anomaly.hour if tell else last_told))
        if new == old:
            return False
        alert = encode(await self._alert(anomaly, now_s)) if tell else b""
        names = (self.keys.usage_anomalies, self.keys.alerts)
        done: Any = await self.redis.eval(_NOTE, 2, *names, anomaly.key_id, old, new, alert, FIELD, ALERTS_MAX)
        return bool(done) and tell

    async def _alert(self, anomaly: Anomaly, now_s: float) -> Alert:
        house = await load_async(self.redis, self.keys.house, HouseRecord) or HouseRecord()
        return Alert(
            kind=Kind.USAGE_ANOMALY,
            at=int(now_s * 1e6),
            place=f"key:{anomaly.key_id}",
            tenant=anomaly.tenant,
            rule=anomaly.metric,
            used=anomaly.used,
            amount=anomaly.usual,
            text=words(anomaly, house.currency),
        )
