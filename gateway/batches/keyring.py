"""Whether the key that ordered something still works: batches outlive the request that made them."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, cast

from redis.asyncio import Redis

from gateway.accounts import Accounts
from gateway.auth import INFERENCE
from gateway.clock import Clock
from gateway.inquiry import Caller
from gateway.state import asking_redis
from models.store.api_keys import decode_keys, has_ended
from models.store.keys import Keys
from models.store.records import KeyRecord

KNOWN_FOR_S = 5.0


class Keyring:
    """All keys by id, looked up when they changed, and now and then: only requests name a key by its hash."""

    def __init__(self, redis: Redis, keys: Keys, clock: Clock, accounts: Accounts) -> None:
        self._redis, self._keys, self._clock, self._accounts = redis, keys, clock, accounts
        self._records: dict[str, KeyRecord] = {}
        self._until_s = float("-inf")
        self._version = -1  # of the book, which is one with that of the keys

    async def caller_of(self, key_id: str) -> Caller | None:
        """None when the key works no more. Raises StoreUnavailable, Forbidden (its tenant is blocked for now)."""
        version = self._accounts.book.version
        if version != self._version or self._clock.monotonic() >= self._until_s:
            async with asking_redis():
                raw = await cast(Awaitable[dict[Any, Any]], self._redis.hgetall(self._keys.api_keys))
            now_unix_s = self._clock.unix()
            found = {
                record.key_id: record
                for record in decode_keys(raw).values()
                if not has_ended(record, now_unix_s) and INFERENCE in record.scopes
            }
            # One that is as it was stays the same object, and so does its account.
            known = self._records
            self._records = {name: known[name] if known.get(name) == now else now for name, now in found.items()}
            self._until_s, self._version = self._clock.monotonic() + KNOWN_FOR_S, version
        record = self._records.get(key_id)
        return None if record is None else self._accounts.of(record).caller
