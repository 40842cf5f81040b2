"""Word to webhooks of what a worker does by itself. It costs no request any time, and a store that is away none."""

from __future__ import annotations

import asyncio

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.clock import Clock
from gateway.ending import end
from models.store.alerts import Alert, Kind, tell
from models.store.keys import Keys
from models.store.tenancy import MICRO

QUIET_S = 3600.0  # one that fails all day is not told of each time, nor by each worker
STORE_TIMEOUT_S = 2.0
MOST_WAITING = 100

log = structlog.get_logger(__name__)


class Notices:
    def __init__(self, redis: Redis, keys: Keys, clock: Clock) -> None:
        self._redis, self._keys, self._clock = redis, keys, clock
        self._telling: set[asyncio.Task[None]] = set()

    def key_cooled(self, key_id: str, tenant: str, for_s: float) -> None:
        """It is refused for so long. Called from the event loop; returns at once."""
        if len(self._telling) >= MOST_WAITING:
            log.warning("webhooks are not told: too much waits for the store", key_id=key_id)
            return
        text = f"the key {key_id} was answered with too many errors (4xx) and is refused for {for_s:g} s at a time"
        at_us = int(self._clock.steady() * MICRO)
        alert = Alert(kind=Kind.KEY_BLOCKED, at=at_us, place=f"key:{key_id}", tenant=tenant, text=text)
        task = asyncio.get_running_loop().create_task(self._tell(alert))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def close(self) -> None:
        await end(self._telling)

    async def _tell(self, alert: Alert) -> None:
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                told = self._keys.alert_told(alert.place)
                if await self._redis.set(told, b"1", nx=True, px=round(QUIET_S * 1000)):
                    await tell(self._redis, self._keys, alert)
        except (RedisError, OSError, TimeoutError) as down:
            log.warning("webhooks are not told: the store is away", alert=alert.kind, reason=type(down).__name__)
