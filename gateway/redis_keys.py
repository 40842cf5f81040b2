"""API keys as they are kept in Redis."""

from __future__ import annotations

import asyncio

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.auth import GIVE_UP_S, KeyStoreDown
from gateway.tenancy_reader import TenancyReader
from models.store.codec import decode
from models.store.errors import StoreDataError
from models.store.keys import Keys
from models.store.records import KeyRecord

log = structlog.get_logger(__name__)


class RedisKeyStore:
    """``tenancy``: is looked at again for a key of a tenant, or a project, that is not known here yet: a new key may be
    used before this worker has heard of its new tenant, and is not to be without that one's limits."""

    def __init__(self, redis: Redis, keys: Keys, tenancy: TenancyReader) -> None:
        self._redis = redis
        self._keys = keys
        self._tenancy = tenancy

    async def find(self, key_hash: str) -> KeyRecord | None:
        try:
            async with asyncio.timeout(GIVE_UP_S):
                raw = await self._redis.hget(self._keys.api_keys, key_hash)
                record = None if raw is None else _read(raw, key_hash)
                if record is not None and not self._tenancy.book.knows(record.tenant, record.project):
                    await self._tenancy.look_ahead()
        except (RedisError, OSError, TimeoutError) as down:
            raise KeyStoreDown(type(down).__name__) from down
        return record


def _read(raw: bytes | str, key_hash: str) -> KeyRecord | None:
    try:
        return decode(raw, KeyRecord, f"API key {key_hash[:12]}")
    except StoreDataError as broken:
        log.error("an API key is left out", reason=str(broken))
        return None
