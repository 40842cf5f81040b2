"""The limits of one worker: what requests may take is reserved before they run, and settled when they are over."""

from __future__ import annotations

from collections.abc import Callable

from redis.asyncio import Redis

from gateway.accounts import Account
from gateway.clock import Clock
from gateway.limits.needs import Need, Seat, Used
from models.store.keys import Keys
from models.store.records import ModelRoute


class Hold:
    """What was reserved for one request. Given back or made up for by ``Limiter.settle``, once."""

    __slots__ = ("by_time",)
    by_time: bool  # a rule of GPU time or money is among those: it is to be held against them while it runs


class Limiter:
    """``worker``: whose leases these are. ``workers``: how many there are; each has its share while the store is away.

    ``run`` is to be running all the time, ``close`` ends it. None of the others waits.
    """

    def __init__(
        self, redis: Redis, keys: Keys, clock: Clock, worker: str, workers: Callable[[], int] = lambda: 1
    ) -> None:
        raise NotImplementedError

    def reserve(self, need: Need) -> Hold | None:
        """What it needs of every rule that holds for it; None: the store is to be asked (``ask``).

        Raises LimitReached, and StoreUnavailable where a budget cannot be checked.
        """
        raise NotImplementedError

    def ask(self, need: Need, seat: Seat) -> None:
        """After ``reserve`` gave None. The seat is told, within 200 ms whatever the store does."""
        raise NotImplementedError

    def leave(self, seat: Seat) -> None:
        """It no longer waits."""
        raise NotImplementedError

    def settle(self, hold: Hold, used: Used) -> None:
        """Once for each hold: the difference to what was reserved is put back, or charged."""
        raise NotImplementedError

    def extend(self, hold: Hold, gpu_us: int, gib_us: int) -> bool:
        """It has used so much so far, in all, and goes on; False: a hard budget has no more for it."""
        raise NotImplementedError

    def headers(self, account: Account, route: ModelRoute) -> bytes:
        """The x-ratelimit-* lines as they are now, of the tightest rule of each kind."""
        raise NotImplementedError

    def store_is_silent(self) -> None:
        """Another part of the worker waited for the store in vain: nobody waits for it again for a while."""
        raise NotImplementedError

    async def run(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        """Reports what is left to report, and gives back all leases."""
        raise NotImplementedError
