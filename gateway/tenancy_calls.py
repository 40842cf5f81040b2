"""What the admin API does to tenants, keys and house rules: on threads, as these calls block and are rare."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import redis

from gateway.actor import ACTOR
from gateway.clock import Clock
from gateway.errors import Conflict, GatewayError, InvalidRequest, NotFound
from gateway.state import asking_redis
from models.store.errors import ChangedMeanwhile, NotThere, TenancyRefused
from models.store.keys import Keys
from models.store.tenants import Edit, Tenancy, change, read_tenancy

T = TypeVar("T")
TIMEOUT_S = 5.0
STATES = ("_exists", "_in_use", "_is_default")  # what codes end in where it is the present state that forbids it


@dataclass(frozen=True, slots=True)
class TenancyCalls:
    client: redis.Redis
    keys: Keys
    clock: Clock

    async def on_thread(self, call: Callable[[], T]) -> T:
        """Raises StoreUnavailable, and what ``call`` raises."""
        async with asking_redis(TIMEOUT_S):
            return await asyncio.to_thread(call)

    async def read(self) -> Tenancy:
        """Raises StoreUnavailable."""
        return await self.on_thread(lambda: read_tenancy(self.client, self.keys))

    async def change(
        self,
        work: Callable[[Tenancy, float], tuple[Sequence[Edit], T]],
        *,
        version: int | None = None,
        dry_run: bool = False,
    ) -> T:
        """What ``work`` makes of all that is known now (and the time, Unix seconds). ``dry_run``: nothing is written.

        ``version``: only if it is still this one. Raises InvalidRequest, NotFound, Conflict, StoreUnavailable.
        """
        now_s, who = self.clock.unix(), ACTOR.get()

        def call() -> T:
            if dry_run:
                known = read_tenancy(self.client, self.keys)
                if version is not None and known.version != version:
                    raise ChangedMeanwhile("somebody else changed this meanwhile; look at it again")
                return work(known, now_s)[1]
            return change(self.client, self.keys, who, now_s, lambda known: work(known, now_s), version=version)

        try:
            return await self.on_thread(call)
        except TenancyRefused as refused:
            raise refusal(refused) from refused
        except ChangedMeanwhile as overtaken:
            raise Conflict(f"{str(overtaken).capitalize()}.", code="changed_meanwhile") from overtaken


def refusal(refused: TenancyRefused) -> GatewayError:
    message, param = f"{refused}.", refused.field or None
    if isinstance(refused, NotThere):
        return NotFound(message, param=param, code=refused.code)
    if refused.code.endswith(STATES):
        return Conflict(message, param=param, code=refused.code)
    return InvalidRequest(message, param=param, code=refused.code)
