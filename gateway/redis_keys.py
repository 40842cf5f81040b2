"""API keys as they are kept in Redis."""

from __future__ import annotations

import asyncio

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.auth import GIVE_UP_S, KeyStoreDown
from models.store.codec import decode
from models.store.errors import StoreDataError
from models.store.keys import Keys
from models.store.records import KeyRecord

log = structlog.get_logger(__name__)


class RedisKeyStore:
    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def find(self, key_hash: str) -> KeyRecord | None:
        try:
            async with asyncio.timeout(GIVE_UP_S):
                raw = await self._redis.hget(self._keys.api_keys, key_hash)
        except (RedisError, OSError, TimeoutError) as down:
            raise KeyStoreDown(type(down).__name__) from down
        if raw is None:
            return None
        try:
            return decode(raw, KeyRecord, f"API key {key_hash[:12]}")
        except StoreDataError as broken:
            log.error("an API key is left out", reason=str(broken))
            return None
