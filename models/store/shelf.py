"""Things that callers keep here: records of one kind, each under its owner, with a quota.

The owner is part of every key, so there is no check to forget: who asks for another's record finds none.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from redis.asyncio import Redis

from models.store.codec import decode, encode
from models.store.errors import StoreError
from models.store.keys import Keys

T = TypeVar("T")
PAGE = 100
_TRIES = 50  # of a change that others keep overtaking

# KEYS: due. ARGV: what the names of the owner's records, index and bytes begin with, owner, id; then what each says.
_FORGET = """
local function forget(owner, id)
  local sizes = ARGV[3] .. owner
  local bytes = tonumber(redis.call('hget', sizes, id) or '0')
  redis.call('zrem', ARGV[2] .. owner, id)
  redis.call('hdel', sizes, id)
  if bytes > 0 then redis.call('hincrby', sizes, '*', -bytes) end
  if redis.call('zcard', ARGV[2] .. owner) == 0 then redis.call('del', sizes) end
  redis.call('zrem', KEYS[1], owner .. '/' .. id)
  return redis.call('hdel', ARGV[1] .. owner, id)
end
"""
# ARGV: record, expires (0: never), now, order, bytes, most records, most bytes, what to do when full.
_PUT = (
    _FORGET
    + """
local owner, id = ARGV[4], ARGV[5]
local records, index, sizes = ARGV[1] .. owner, ARGV[2] .. owner, ARGV[3] .. owner
local expires, now, bytes = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[10])
local most, most_bytes, when_full = tonumber(ARGV[11]), tonumber(ARGV[12]), ARGV[13]
local function full()
  return redis.call('zcard', index) + 1 > most or tonumber(redis.call('hget', sizes, '*') or '0') + bytes > most_bytes
end
for _, name in ipairs(redis.call('zrangebyscore', KEYS[1], '-inf', now, 'LIMIT', 0, 20)) do
  local slash = string.find(name, '/', 1, true)
  forget(string.sub(name, 1, slash - 1), string.sub(name, slash + 1))
end
forget(owner, id)
if when_full ~= 'force' and full() then
  if bytes > most_bytes or most < 1 then return 0 end
  if when_full == 'refuse' then
    for _, other in ipairs(redis.call('zrange', index, 0, -1)) do
      local due = redis.call('zscore', KEYS[1], owner .. '/' .. other)
      if due and tonumber(due) <= now then forget(owner, other) end
    end
    if full() then return 0 end
  end
  while full() do forget(owner, redis.call('zrange', index, 0, 0)[1]) end
end
redis.call('hset', records, id, ARGV[6])
redis.call('zadd', index, ARGV[9], id)
redis.call('hset', sizes, id, bytes)
redis.call('hincrby', sizes, '*', bytes)
if expires > 0 then redis.call('zadd', KEYS[1], expires, owner .. '/' .. id) end
return 1
"""
)
_REMOVE = _FORGET + "return forget(ARGV[4], ARGV[5])"
# What counts for its own length goes on doing so. KEYS: records, bytes, due. ARGV: owner, id, old, new, expires.
_CHANGE = """
local id, old, new = ARGV[2], ARGV[3], ARGV[4]
if redis.call('hget', KEYS[1], id) ~= old then return 0 end
redis.call('hset', KEYS[1], id, new)
if redis.call('hget', KEYS[2], id) == tostring(#old) then
  redis.call('hset', KEYS[2], id, #new)
  redis.call('hincrby', KEYS[2], '*', #new - #old)
end
if tonumber(ARGV[5]) > 0 then redis.call('zadd', KEYS[3], ARGV[5], ARGV[1] .. '/' .. id) end
return 1
"""


class ShelfFull(StoreError):
    """The owner's quota leaves no room for this one."""


class Overtaken(StoreError):
    """A record was changed by others again and again; nothing of this change was written."""


@dataclass(frozen=True, slots=True)
class Quota:
    """Of each owner. ``drop_oldest``: what was not used for the longest time makes room; else a new one is refused."""

    most: int
    most_bytes: int
    drop_oldest: bool = False


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    records: tuple[T, ...]
    more: bool


class Shelf(Generic[T]):
    """Records of one kind. Every method raises redis.RedisError, and StoreDataError for what is not such a record.

    ``now``: Unix seconds. What has expired is not found any more; a later ``put``, anybody's, gives its room back.
    """

    def __init__(
        self, redis: Redis, keys: Keys, kind: str, record: type[T], quota: Quota, now: Callable[[], float] = time.time
    ) -> None:
        self._redis, self._keys, self._kind, self._record, self._quota = redis, keys, kind, record, quota
        self._now, self._due = now, keys.kept_due(kind)
        self._names = [keys.kept(kind, ""), keys.kept_index(kind, ""), keys.kept_bytes(kind, "")]
        self._put, self._remove = redis.register_script(_PUT), redis.register_script(_REMOVE)
        self._change = redis.register_script(_CHANGE)

    async def put(
        self,
        owner: str,
        kept_id: str,
        record: T,
        *,
        order: float,
        ttl_s: float | None = None,
        size_bytes: int | None = None,
        force: bool = False,
    ) -> None:
        """``order``: where it stands in lists. ``size_bytes``: what it counts for, if not its own length.

        ``force``: whatever the quota says. Raises ShelfFull.
        """
        raw, quota = encode(record), self._quota
        size_bytes = len(raw) if size_bytes is None else size_bytes
        when_full = "force" if force else "drop" if quota.drop_oldest else "refuse"
        what: list[Any] = [
            raw,
            self._expires(ttl_s),
            self._now(),
            order,
            size_bytes,
            quota.most,
            quota.most_bytes,
            when_full,
        ]
        if not await self._put(keys=[self._due], args=[*self._names, owner, kept_id, *what]):
            raise ShelfFull(f"{size_bytes} bytes more than the quota of {self._kind} has room for")

    async def get(self, owner: str, kept_id: str) -> T | None:
        return (await self.get_many(owner, (kept_id,)))[0]

    async def get_many(self, owner: str, kept_ids: Sequence[str]) -> list[T | None]:
        """In the order asked for; None for each that is not there."""
        if not kept_ids:
            return []
        name = self._keys.kept(self._kind, owner)
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hmget(name, list(kept_ids))
            pipe.zmscore(self._due, [f"{owner}/{kept_id}" for kept_id in kept_ids])
            raws, due = await pipe.execute()
        now = self._now()
        return [
            None if raw is None or (until is not None and until <= now) else decode(raw, self._record, name)
            for raw, until in zip(raws, due, strict=True)
        ]

    async def touch(self, owner: str, kept_ids: Sequence[str], order: float, ttl_s: float) -> None:
        """They were used now: the time they are kept for begins again."""
        expires = self._expires(ttl_s)
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zadd(self._due, {f"{owner}/{kept_id}": expires for kept_id in kept_ids}, xx=True)
            pipe.zadd(self._keys.kept_index(self._kind, owner), dict.fromkeys(kept_ids, order), xx=True)
            await pipe.execute()

    async def change(
        self, owner: str, kept_id: str, change: Callable[[T], T | None], *, ttl_s: float | None = None
    ) -> T | None:
        """What ``change`` makes of it, in one step seen by all; None: it is gone, or ``change`` wanted nothing (None).

        ``change`` may be called several times. ``ttl_s``: expires so long from now, else when it would have.
        Raises Overtaken.
        """
        name = self._keys.kept(self._kind, owner)
        for _ in range(_TRIES):
            old: Any = await cast(Awaitable[Any], self._redis.hget(name, kept_id))
            new = None if old is None else change(decode(old, self._record, name))
            if old is None or new is None:
                return None
            names = [name, self._keys.kept_bytes(self._kind, owner), self._due]
            if await self._change(keys=names, args=[owner, kept_id, old, encode(new), self._expires(ttl_s)]):
                return new
        raise Overtaken(f"a record of {self._kind} is changed by others all the time")

    async def remove(self, owner: str, kept_id: str) -> bool:
        """Whether it was there."""
        return bool(await self._remove(keys=[self._due], args=[*self._names, owner, kept_id]))

    async def held(self, owner: str) -> tuple[int, int]:
        """(records, bytes) that count against the quota."""
        count = await self._redis.zcard(self._keys.kept_index(self._kind, owner))
        held_bytes: Any = await cast(Awaitable[Any], self._redis.hget(self._keys.kept_bytes(self._kind, owner), "*"))
        return count, int(held_bytes or 0)

    async def page(
        self,
        owner: str,
        *,
        after: str | None,
        limit: int,
        newest_first: bool,
        wanted: Callable[[T], bool] = lambda _: True,
    ) -> Page[T]:
        """Up to ``limit`` in order, those behind ``after`` when it is given (nothing when that is not there)."""
        index = self._keys.kept_index(self._kind, owner)
        rank, between = (
            (self._redis.zrevrank, self._redis.zrevrange) if newest_first else (self._redis.zrank, self._redis.zrange)
        )
        start = 0
        if after is not None:
            found_at: Any = await rank(index, after)
            if found_at is None:
                return Page((), more=False)
            start = int(found_at) + 1
        found: list[T] = []
        while len(found) <= limit:  # one more than asked for tells whether there are more
            ids: Any = await between(index, start, start + PAGE - 1)
            found += [
                record
                for record in await self.get_many(owner, [kept_id.decode() for kept_id in ids])
                if record is not None and wanted(record)
            ]
            if len(ids) < PAGE:
                break
            start += PAGE
        return Page(tuple(found[:limit]), more=len(found) > limit)

    def _expires(self, ttl_s: float | None) -> float:
        return 0.0 if ttl_s is None else self._now() + ttl_s
