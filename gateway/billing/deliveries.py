"""What webhooks are still to be told: kept in Redis from the alert on until the receiver has it, or nobody tries again.

Any process may work it off, and several at once: each claims what is due for a while. One that dies leaves its claims
to the others when that is over, so an alert gets there at least once, under one id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, cast

from redis.asyncio import Redis

from models.store.alerts import FIELD, GIVEN_UP, Alert
from models.store.base import Struct
from models.store.codec import decode, encode
from models.store.errors import StoreDataError
from models.store.keys import Keys
from models.store.tenancy import HouseRecord, Webhook

# Waits before each further try: 28 hours in all, as the larger senders of webhooks have it.
WAITS_S = (5.0, 60.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 36_000.0)
JITTER = 0.2  # of a wait, either way: many that failed together do not come back together
LONGEST_ASKED_WAIT_S = 3600.0  # for which a receiver may put us off
MOST_OPEN = 20_000
READ_AT_ONCE = 100
BEGINNING = "0-0"

# KEYS: webhooks_read, webhooks_due, webhooks_open. ARGV: read before, read now, due, then id and delivery of each.
_HAND_OUT = """
if (redis.call('get', KEYS[1]) or '0-0') ~= ARGV[1] then return 0 end
for i = 4, #ARGV, 2 do
  redis.call('hset', KEYS[3], ARGV[i], ARGV[i + 1])
  redis.call('zadd', KEYS[2], ARGV[3], ARGV[i])
end
redis.call('set', KEYS[1], ARGV[2])
return 1
"""
# KEYS: webhooks_due, webhooks_open. ARGV: now, until when they are ours, how many. Gives id, delivery, id, delivery ...
_CLAIM = """
local found = {}
for _, id in ipairs(redis.call('zrangebyscore', KEYS[1], '-inf', ARGV[1], 'limit', 0, ARGV[3])) do
  local delivery = redis.call('hget', KEYS[2], id)
  if delivery then
    redis.call('zadd', KEYS[1], ARGV[2], id)
    found[#found + 1] = id
    found[#found + 1] = delivery
  else
    redis.call('zrem', KEYS[1], id)
  end
end
return found
"""
# KEYS: webhooks_due, webhooks_open, webhooks_counts. ARGV: id, what it came to.
_OVER = """
if redis.call('hdel', KEYS[2], ARGV[1]) == 0 then return 0 end
redis.call('zrem', KEYS[1], ARGV[1])
if ARGV[2] ~= '' then redis.call('hincrby', KEYS[3], ARGV[2], 1) end
return 1
"""
# KEYS: as before. ARGV: id, due, delivery, what it came to.
_AGAIN = """
if redis.call('hexists', KEYS[2], ARGV[1]) == 0 then return 0 end
redis.call('hset', KEYS[2], ARGV[1], ARGV[3])
redis.call('zadd', KEYS[1], ARGV[2], ARGV[1])
if ARGV[4] ~= '' then redis.call('hincrby', KEYS[3], ARGV[4], 1) end
return 1
"""


class Delivery(Struct, frozen=True):
    """One alert for one webhook. ``id``: by which the receiver knows it. ``tries``: that failed so far."""

    id: str
    hook: str
    alert: Alert
    tries: int = 0


def hook_id(hook: Webhook) -> str:
    """Stays the same while its secret and its events change."""
    return hashlib.sha256(f"{hook.url}\n{hook.tenant}".encode()).hexdigest()[:16]


def wants(hook: Webhook, alert: Alert) -> bool:
    """A tenant's webhook is told of that tenant only."""
    if hook.tenant and hook.tenant != alert.tenant:
        return False
    return any(fnmatchcase(alert.kind, pattern) for pattern in hook.events)


def wait_s(tries: int, random: float, asked_s: float | None = None) -> float | None:
    """Until the next try after so many that failed; None: there is none. ``random``: 0 to 1.

    ``asked_s``: what the receiver asked for (Retry-After), if that is longer.
    """
    if tries > len(WAITS_S):
        return None
    wait = WAITS_S[tries - 1] * (1 + JITTER * (2 * random - 1))
    return max(wait, min(asked_s, LONGEST_ASKED_WAIT_S)) if asked_s is not None else wait


class Deliveries:
    """Every method raises redis.RedisError. Times are Unix seconds."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self._keys = redis, keys
        self._hand_out, self._claim = redis.register_script(_HAND_OUT), redis.register_script(_CLAIM)
        self._over, self._again = redis.register_script(_OVER), redis.register_script(_AGAIN)

    async def read(self, house: HouseRecord, now_unix_s: float) -> tuple[int, list[str]]:
        """Makes deliveries of alerts that have none yet. How many alerts there were, and what is wrong with which."""
        keys = self._keys
        before: Any = await self._redis.get(keys.webhooks_read) or BEGINNING.encode()
        found: Any = await self._redis.xrange(keys.alerts, min=b"(" + before, count=READ_AT_ONCE)
        if not found:
            return 0, []
        wrong: list[str] = []
        args: list[Any] = []
        for entry, fields in found:
            try:
                alert = decode(fields[FIELD.encode()], Alert, keys.alerts)
            except (KeyError, StoreDataError) as broken:
                wrong.append(f"{entry.decode()}: {broken}")
                continue
            args += [
                part for one in _for_hooks(entry.decode(), alert, house.webhooks) for part in (one.id, encode(one))
            ]
        if args and await self._open() >= MOST_OPEN:
            wrong.append(f"{MOST_OPEN} deliveries are open; what came since is dropped")
            await self._redis.hincrby(keys.webhooks_counts, GIVEN_UP, len(args) // 2)
            args = []
        await self._hand_out(
            keys=[keys.webhooks_read, keys.webhooks_due, keys.webhooks_open],
            args=[before, found[-1][0], now_unix_s, *args],
        )
        return len(found), wrong

    async def claim(self, now_unix_s: float, for_s: float, most: int) -> list[Delivery]:
        """What is due, for so long ours alone. One that cannot be read is given up, and counted so."""
        found = await self._claim(keys=self._all[:2], args=[now_unix_s, now_unix_s + for_s, most])
        claimed = []
        for name, raw in zip(found[::2], found[1::2], strict=True):
            try:
                claimed.append(decode(raw, Delivery, self._keys.webhooks_open))
            except StoreDataError:
                await self._over(keys=self._all, args=[name, GIVEN_UP])
        return claimed

    async def over(self, delivery: Delivery, outcome: str) -> None:
        """``outcome``: DELIVERED or GIVEN_UP, as it is counted; "" where its webhook is gone."""
        await self._over(keys=self._all, args=[delivery.id, outcome])

    async def again(self, delivery: Delivery, due_unix_s: float, outcome: str = "") -> None:
        await self._again(keys=self._all, args=[delivery.id, due_unix_s, encode(delivery), outcome])

    async def figures(self) -> tuple[int, Mapping[str, int]]:
        """How many are open, and how many came to what."""
        raw = await cast(Awaitable[dict[bytes, bytes]], self._redis.hgetall(self._keys.webhooks_counts))
        return await self._open(), {name.decode(): int(count) for name, count in raw.items()}

    async def _open(self) -> int:
        return int(await self._redis.zcard(self._keys.webhooks_due))

    @property
    def _all(self) -> list[str]:
        return [self._keys.webhooks_due, self._keys.webhooks_open, self._keys.webhooks_counts]


def _for_hooks(entry: str, alert: Alert, hooks: Iterable[Webhook]) -> list[Delivery]:
    return [
        Delivery(id=f"msg_{entry.replace('-', '_')}_{hook_id(hook)}", hook=hook_id(hook), alert=alert)
        for hook in hooks
        if wants(hook, alert)
    ]
