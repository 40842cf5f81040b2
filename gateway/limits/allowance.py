"""What one request has been allowed, from its arrival until it is settled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.limits.needs import Need, Seat, used_by

if TYPE_CHECKING:
    from gateway.admit import Claim
    from gateway.admit.target import Target
    from gateway.exchange import Usage
    from gateway.limits.limiter import Hold, Limiter

MICRO = 1e6
GIB = 1 << 30


class Allowance:
    """One per request. ``take`` comes first, ``settle`` last and once; what a request ran is noted in between."""

    __slots__ = ("_asking", "_hold", "_limiter", "_need", "gib_us", "gpu_us")

    def __init__(self, limiter: Limiter, need: Need) -> None:
        self._limiter = limiter
        self._need = need
        self._hold: Hold | None = None
        self._asking = False
        self.gpu_us = 0.0  # of runs that are over
        self.gib_us = 0.0

    def take(self, seat: Seat) -> bool:
        """False: the store is asked, and ``seat`` told. Raises LimitReached, StoreUnavailable."""
        self._hold = self._limiter.reserve(self._need)
        if self._hold is None:
            self._asking = True
            self._limiter.ask(self._need, seat)
            return False
        return True

    def granted(self, hold: Hold) -> None:
        self._asking, self._hold = False, hold

    def not_granted(self) -> None:
        self._asking = False

    def ran(self, shared_s: float, target: Target) -> None:
        """A run is over: ``shared_s`` of that replica were its part."""
        self.gpu_us += shared_s * target.gpu_share * MICRO
        self.gib_us += shared_s * target.memory_bytes / GIB * MICRO

    def bill(self, claim: Claim, now_s: float) -> bool:
        """It runs on: its budgets hold what it has had so far. False: one of them does not."""
        target, hold = claim.target, self._hold
        if target is None or hold is None or not hold.by_time:
            return True
        shared_s = target.share_until(now_s) - claim.shared_s
        gpu_us = self.gpu_us + shared_s * target.gpu_share * MICRO
        gib_us = self.gib_us + shared_s * target.memory_bytes / GIB * MICRO
        return self._limiter.extend(hold, round(gpu_us), round(gib_us))

    def settle(self, seat: Seat, usage: Usage | None, *, answered: bool) -> None:
        if self._asking:
            self._asking = False
            self._limiter.leave(seat)
        hold, self._hold = self._hold, None
        if hold is not None:
            self._limiter.settle(hold, used_by(usage, self.gpu_us, self.gib_us, answered=answered))

    def lines(self) -> bytes:
        """The header lines that tell of its limits."""
        return self._limiter.headers(self._need.account, self._need.route)
