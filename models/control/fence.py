"""Who may write: the controller of the newest epoch, and no other.

Each controller takes the next number when it comes into office (``models.control.office``). Each of its writes is a
script that begins by comparing that number with the one in Redis:

1. the same: it writes;
2. a higher one: a later controller is in office, and this one must end (LeaseLost);
3. none, or a lower one: Redis has lost what it held, or is another one. Nothing is written: a later controller may have
   been in office before that. The nodes know (``office.stay_in_office``), and if they confirm it, it writes all anew.

A lease that merely expires changes nothing of this.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from redis.asyncio import Redis
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisSilent

ANSWER_S = 2.0  # a server that is silent for longer counts as down

_CHECK = """
local found = redis.call('get', KEYS[1]) or '0'
if found ~= ARGV[1] then return found end
"""
# KEYS: epoch. ARGV: above which it has to be.
_NEXT = """
local epoch = math.max(tonumber(redis.call('get', KEYS[1]) or '0') or 0, tonumber(ARGV[1])) + 1
redis.call('set', KEYS[1], string.format('%d', epoch))
return epoch
"""
# KEYS: epoch. ARGV: the one that is in office, as the nodes say.
_RESTORE = """
local found = redis.call('get', KEYS[1]) or '0'
if (tonumber(found) or 0) > tonumber(ARGV[1]) then return found end
redis.call('set', KEYS[1], ARGV[1])
return 1
"""
# KEYS: epoch, key. ARGV: epoch, value, ms.
_PUT = (
    _CHECK
    + """
if tonumber(ARGV[3]) > 0 then redis.call('set', KEYS[2], ARGV[2], 'PX', ARGV[3])
else redis.call('set', KEYS[2], ARGV[2]) end
return 1
"""
)


class LeaseLost(Exception):
    """Another controller writes now; this one must stop."""


class StateForgotten(RedisError):
    """Redis does not know who is in office: it has lost its data. Nothing was written."""


class Fence:
    """Raises RedisError for a server that does not answer in time, too."""

    def __init__(self, redis: Redis, epoch_key: str) -> None:
        self._key = epoch_key
        self._redis = redis
        self._next, self._restore, self._put = map(redis.register_script, (_NEXT, _RESTORE, _PUT))
        self.epoch = 0  # before any controller was in office

    def script(self, body: str) -> FencedScript:
        """``body`` sees the epoch as KEYS[1] and ARGV[1], its own keys and arguments from 2 on, and returns 1."""
        return FencedScript(self, self._redis, self._key, body)

    async def take(self, above: int = 0) -> int:
        """The next epoch, higher than ``above``. Whoever was in office before writes nothing from here on."""
        async with in_time():
            self.epoch = int(await self._next(keys=[self._key], args=[above]))
        return self.epoch

    async def restore(self) -> None:
        """Redis has forgotten it; the nodes have not. Raises LeaseLost when another one has taken office meanwhile."""
        async with in_time():
            self.check(await self._restore(keys=[self._key], args=[self.epoch]))

    async def put(self, key: str, value: bytes | str, ttl_s: float = 0.0) -> None:
        """``ttl_s``: it expires after this time; 0: never. Raises LeaseLost, StateForgotten."""
        async with in_time():
            self.check(await self._put(keys=[self._key, key], args=[self.epoch, value, round(ttl_s * 1000)]))

    def check(self, said: int | bytes) -> None:
        """What a script has returned. Raises LeaseLost, StateForgotten."""
        if isinstance(said, int):
            return
        found = _number(said)
        if found > self.epoch:
            raise LeaseLost(f"controller {found} is in office; this one was number {self.epoch}")
        raise StateForgotten(
            f"Redis knows of {f'controller {found}' if found else 'no controller'} where {self.epoch} is in office"
        )


class FencedScript:
    def __init__(self, fence: Fence, redis: Redis, epoch_key: str, body: str) -> None:
        self._fence, self._epoch_key = fence, epoch_key
        self._script = redis.register_script(_CHECK + body)

    async def __call__(self, keys: Sequence[str], args: Sequence[bytes | str | int]) -> None:
        """Raises LeaseLost, StateForgotten; then nothing was written."""
        fence = self._fence
        async with in_time():
            fence.check(await self._script(keys=[self._epoch_key, *keys], args=[fence.epoch, *args]))


@asynccontextmanager
async def in_time(limit_s: float = ANSWER_S) -> AsyncIterator[None]:
    """Raises redis' TimeoutError for what takes longer: whether it was carried out is not known then."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError as silent:
        raise RedisSilent(f"no answer within {limit_s:g} s") from silent


def _number(said: bytes) -> int:
    try:
        return int(said)
    except ValueError:
        return 0
