"""A lease: one of many processes does something, another takes over when it dies."""

from __future__ import annotations

from redis.asyncio import Redis

# KEYS: lease. ARGV: token, ms.
_RENEW = """
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('pexpire', KEYS[1], ARGV[2])
return 1
"""
_RELEASE = """
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('del', KEYS[1])
"""


class Lease:
    """Every method raises redis.RedisError."""

    def __init__(self, redis: Redis, key: str, token: str, lasts_s: float) -> None:
        self._redis, self._key, self._token, self._lasts_ms = redis, key, token, round(lasts_s * 1000)
        self._renew, self._release = redis.register_script(_RENEW), redis.register_script(_RELEASE)

    async def take(self) -> bool:
        """Whether it is ours now: it was free, or was ours already."""
        taken = await self._redis.set(self._key, self._token, nx=True, px=self._lasts_ms)
        return bool(taken) or await self.renew()

    async def renew(self) -> bool:
        """False: another one has it, or it ended."""
        return bool(await self._renew(keys=[self._key], args=[self._token, self._lasts_ms]))

    async def release(self) -> None:
        await self._release(keys=[self._key], args=[self._token])
