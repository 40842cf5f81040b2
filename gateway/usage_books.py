"""The books as they are kept in Redis, read for answers."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from redis.asyncio import Redis

from gateway.accounts import HOUSE, Account
from gateway.billing.anomalies import Anomaly
from gateway.billing.books import MARK_BYTES
from gateway.billing.invoices import DaySums, Month
from gateway.billing.sink import SinkStatus
from gateway.limits.reading import RuleUse, usage_of
from gateway.limits.windows import UnknownWindow, window_of
from models.store.api_keys import decode_keys
from models.store.base import Struct
from models.store.codec import decode, load_async
from models.store.errors import StoreDataError
from models.store.keys import Keys
from models.store.meters import read_async
from models.store.rollups import Bucket, Row, read, read_gpus
from models.store.tenancy import HouseRecord, LimitRule, TenantRecord
from models.store.usage import MeterStatus, SettledEvent

EVENTS_AT_ONCE = 500
EVENTS_SEARCHED = 100_000
_OF_KEY = ("project", "key", "model")


class Asked(Struct, frozen=True):
    """From ``since_s`` until before ``until_s`` (Unix). ``by``: dimensions to tell apart; ``where``: what counts."""

    since_s: float
    until_s: float
    by: tuple[str, ...] = ()
    where: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    bucket: Bucket = "none"


class _Settling(Struct, frozen=True):
    """Of ``gateway.billing.sweep.State``, what is needed here."""

    until_us: int = 0


@dataclass(frozen=True, slots=True)
class Books:
    """All methods raise redis.RedisError, and StoreDataError where something cannot be read."""

    redis: Redis
    keys: Keys

    async def usage(self, asked: Asked, now_s: float) -> list[Row]:
        return await read(self.redis, self.keys, asked.since_s, asked.until_s, now_s=now_s, **_terms(asked))

    async def meters(self) -> list[MeterStatus]:
        return await read_async(self.redis, self.keys)

    async def gpus(self, asked: Asked, now_s: float) -> list[Row]:
        return await read_gpus(self.redis, self.keys, asked.since_s, asked.until_s, now_s=now_s, **_terms(asked))

    async def month(self, tenant: str, month: Month, now_s: float) -> list[DaySums]:
        """The days of one tenant."""
        asked = Asked(
            since_s=month.since_s, until_s=month.until_s, by=_OF_KEY, where={"tenant": (tenant,)}, bucket="day"
        )
        rows = await self.usage(asked, now_s)
        return [DaySums(day, tenant, project, key, model, sums) for day, (project, key, model), sums in rows]

    async def settled(self, limit: int, before: str | None, where: Mapping[str, str]) -> list[tuple[str, SettledEvent]]:
        """Newest first. ``where``: fields of events. Of the last EVENTS_SEARCHED; what cannot be read is left out."""
        found: list[tuple[str, SettledEvent]] = []
        newest, searched = f"({before}" if before else "+", 0
        while len(found) < limit and searched < EVENTS_SEARCHED:
            some: Any = await self.redis.xrevrange(self.keys.usage_settled, max=newest, count=EVENTS_AT_ONCE)
            for position, fields in some:
                event = _readable(fields, position.decode())
                if event is not None and all(getattr(event, name) == value for name, value in where.items()):
                    found.append((position.decode(), event))
            if len(some) < EVENTS_AT_ONCE:
                break
            newest, searched = f"({some[-1][0].decode()}", searched + len(some)
        return found[:limit]

    async def settled_until(self) -> float | None:
        """Unix seconds; None: nothing was ever settled."""
        raw: Any = await self.redis.get(self.keys.usage_settling)
        try:
            found = msgspec.msgpack.decode(zlib.decompress((raw or b"")[MARK_BYTES:]), type=_Settling)
        except (zlib.error, msgspec.MsgspecError):
            return None  # the meter sets aside what it cannot read
        return found.until_us / 1e6 if found.until_us else None

    async def anomalies(self) -> list[Anomaly]:
        """Those that were seen last, one of each key."""
        raws: Any = await self.redis.hgetall(self.keys.usage_anomalies)
        return [decode(raw, Anomaly, self.keys.usage_anomalies) for raw in raws.values()]

    async def limits(self, account: Account, now_s: float) -> list[RuleUse]:
        """Of its key, project and tenant; the house's are nobody's own. Left out is what the limiter leaves out."""
        own = [placed for placed in account.every_rule() if placed.place != HOUSE and _is_known(placed.rule)]
        return await usage_of(self.redis, self.keys, own, int(now_s * 1e6))

    async def sink(self) -> SinkStatus | None:
        """None where no PostgreSQL is named, or nothing was heard of its copy for a while."""
        return await load_async(self.redis, self.keys.usage_sink, SinkStatus)

    async def house(self) -> HouseRecord:
        return await load_async(self.redis, self.keys.house, HouseRecord) or HouseRecord()

    async def tenant(self, tenant: str) -> TenantRecord | None:
        raw: Any = await self.redis.hget(self.keys.tenants, tenant)
        return None if raw is None else decode(raw, TenantRecord, f"the tenant {tenant}")

    async def key_names(self) -> dict[str, str]:
        raws: Any = await self.redis.hgetall(self.keys.api_keys)
        return {record.key_id: record.name for record in decode_keys(raws).values()}


def _terms(asked: Asked) -> dict[str, Any]:
    return {"by": asked.by, "where": asked.where, "bucket": asked.bucket}


def _is_known(rule: LimitRule) -> bool:
    try:
        window_of(rule)
    except UnknownWindow:
        return False
    return True


def _readable(fields: Mapping[bytes, bytes], position: str) -> SettledEvent | None:
    try:
        return decode(fields[b"e"], SettledEvent, f"the settled event {position}")
    except (StoreDataError, KeyError):
        return None
