"""Whether the key that ordered a batch still works: batches outlive the request that made them."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, cast

from redis.asyncio import Redis

from gateway.auth import INFERENCE
from gateway.clock import Clock
from gateway.inquiry import Caller
from gateway.state import asking_redis
from models.store.api_keys import decode_keys
from models.store.keys import Keys

KNOWN_FOR_S = 5.0


class Keyring:
    """All keys by id, looked up rarely: only requests name a key by its hash."""

    def __init__(self, redis: Redis, keys: Keys, clock: Clock) -> None:
        self._redis, self._keys, self._clock = redis, keys, clock
        self._callers: dict[str, Caller] = {}
        self._until_s = float("-inf")

    async def caller_of(self, key_id: str) -> Caller | None:
        """None when the key was revoked. Raises StoreUnavailable."""
        if self._clock.monotonic() >= self._until_s:
            async with asking_redis():
                raw = await cast(Awaitable[dict[Any, Any]], self._redis.hgetall(self._keys.api_keys))
            self._callers = {
                record.key_id: Caller(record.key_id, record.name, record.weight, record.priority)
                for record in decode_keys(raw).values()
                if record.revoked_unix_s is None and INFERENCE in record.scopes
            }
            self._until_s = self._clock.monotonic() + KNOWN_FOR_S
        return self._callers.get(key_id)
