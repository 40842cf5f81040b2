"""Who bears a start's GPU time, once it is known who waited for it. Pure.

A start's time is nobody's while it goes on. READY_WITHIN_US after the replica serves, those requests on it count that
were held for a start and began by then: together they bear it in equal parts, if the house has callers bear starts.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from gateway.billing.shares import Who
from models.store.base import Struct
from models.store.tenancy import Bearer

WITHIN_US = 1_000_000

Spent = dict[str, dict[str, int]]  # hour -> GPU -> nanoseconds


class Waiter(Struct, frozen=True):
    who: Who
    from_us: int


class Start(msgspec.Struct, kw_only=True):  # it grows
    """``ended_us``: when it was over, 0 before. ``served``: and came to something."""

    replica: str
    model: str
    owner: str
    began_us: int
    spent: Spent = msgspec.field(default_factory=dict)
    waiters: dict[str, Waiter] = msgspec.field(default_factory=dict)  # by account
    ended_us: int = 0
    served: bool = False

    def add(self, hour: str, gpu: str, ns: int) -> None:
        gpus = self.spent.setdefault(hour, {})
        gpus[gpu] = gpus.get(gpu, 0) + ns

    def may_have(self, from_us: int) -> bool:
        """A request that ran from then may have waited for it."""
        return from_us >= self.began_us and (not self.ended_us or abs(from_us - self.ended_us) <= WITHIN_US)

    def forget_early(self, until_us: int) -> None:
        """Those who ran so long before it can be over that they have not waited for it."""
        if not self.ended_us:
            early = [name for name, waiter in self.waiters.items() if waiter.from_us < until_us - WITHIN_US]
            for name in early:
                del self.waiters[name]

    def is_known(self, until_us: int) -> bool:
        """All who waited for it have been seen."""
        return bool(self.ended_us) and (not self.served or until_us >= self.ended_us + WITHIN_US)

    def bearers(self) -> dict[str, Waiter]:
        if not self.served:
            return {}
        return {
            account: waiter
            for account, waiter in self.waiters.items()
            if abs(waiter.from_us - self.ended_us) <= WITHIN_US
        }


class Charge(NamedTuple):
    """``account``: the request that bears it, "" where it is a tenant for all of the model's starts."""

    who: Who
    account: str
    hour: str
    gpu: str
    ns: int


def charges(start: Start, starts_to: Bearer, otherwise: Bearer, is_tenant: bool) -> list[Charge]:
    """Who bears it: 1. those who waited for it, where they are to; 2. the model's owner, where it is to and is a
    tenant; 3. nobody but the operator: then nothing is charged. ``otherwise``: who bears what has no caller."""
    bearers = start.bearers() if starts_to is Bearer.CALLER else {}
    if bearers:  # 1
        return [charge for hour, gpus in start.spent.items() for charge in _divided(bearers, hour, gpus)]
    bearer = otherwise if starts_to is Bearer.CALLER else starts_to
    if bearer is Bearer.OWNER and is_tenant:  # 2
        who = Who(start.owner, "", "", start.model)
        return [Charge(who, "", hour, gpu, ns) for hour, gpus in start.spent.items() for gpu, ns in gpus.items()]
    return []  # 3


def _divided(bearers: dict[str, Waiter], hour: str, gpus: dict[str, int]) -> list[Charge]:
    found = []
    for gpu, ns in gpus.items():
        each, more = divmod(ns, len(bearers))
        for number, (account, waiter) in enumerate(sorted(bearers.items())):
            share = each + (number < more)
            if share:
                found.append(Charge(waiter.who, account, hour, gpu, share))
    return found
