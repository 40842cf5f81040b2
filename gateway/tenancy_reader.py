"""Tenants and the house's rules out of Redis: a look costs one number while nothing has changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import structlog
from redis.asyncio import Redis

from gateway.tenant_book import TenantBook
from models.store.errors import StoreDataError
from models.store.keys import Keys
from models.store.tenancy import HouseRecord, TenantRecord
from models.store.tenants import decode_house, decode_tenants

UNREADABLE = "its settings cannot be read; the operator's log says why"

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class TenancyReader:
    redis: Redis
    keys: Keys
    book: TenantBook

    async def look(self) -> bool:
        """Whether the version is another one than was known, of tenants, the house or keys. Raises RedisError.

        What cannot be read is told, and the last that could be stays in force. A tenant of which there is none is
        refused until then.
        """
        raw = await self.redis.get(self.keys.tenancy_version)
        if int(raw or 0) == self.book.version:
            return False
        version, house, tenants = await self._read()
        if self.book.offer(version, house, tenants):
            log.info("tenants", version=version, tenants=len(self.book.tenants))
        return True

    async def look_ahead(self) -> None:
        """Take up what there is now; the next ``look`` tells of it all the same. Raises RedisError."""
        _, house, tenants = await self._read()
        self.book.offer(self.book.version, house, tenants)

    async def _read(self) -> tuple[int, HouseRecord, dict[str, TenantRecord]]:
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.get(self.keys.tenancy_version)
            pipe.get(self.keys.house)
            pipe.hgetall(self.keys.tenants)
            found: list[Any] = await pipe.execute()
        version, house, tenants = int(found[0] or 0), found[1], found[2]
        try:
            read_house = decode_house(house)
        except StoreDataError as broken:
            log.error("the house's rules cannot be read; the last ones stay in force", reason=str(broken))
            read_house = self.book.house
        known = decode_tenants(tenants, self.book.tenants)
        for name in {name.decode(errors="replace") for name in tenants} - known.keys():
            known[name] = TenantRecord(tenant_id=name, blocked=UNREADABLE)  # its budgets must not vanish
        return version, read_house, known
