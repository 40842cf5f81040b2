"""Held requests for the tests of turns, and who was given how much of what was popped."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

from gateway.admit.desk import Desk
from gateway.admit.fairness import FairQueue
from gateway.admit.ticket import Ticket
from gateway.demand import ModelCounts
from gateway.inquiry import Caller
from models.store.records import ModelRoute
from tests.gateway.admit.scene import M, Request, inquiry

_IDS = itertools.count(1)
_DESK = Desk(ModelRoute(model_id=M), ModelCounts())


def ticket(
    tenant: str = "t", tokens: int = 10, weight: float = 1.0, priority: int = 0, *, retry: bool = False,
    deadline_s: float = 60.0, share: float = 0.0, key: str = "k", key_weight: float = 1.0,
) -> Ticket:  # fmt: skip
    asked = inquiry(tenant=tenant, tokens=tokens, weight=weight, share=share, key=key, key_weight=key_weight)
    return Ticket(
        id=next(_IDS), desk=_DESK, seat=Request(asked), inquiry=asked, name="m", since_s=0.0, since_unix_s=0.0,
        deadline_s=deadline_s, caller=asked.caller, priority=priority, tokens=tokens, woken=False, retry=retry,
    )  # fmt: skip


def caller(tenant: str, weight: float = 1.0, **more: Any) -> Caller:
    return Caller(tenant, weight=weight, **{"key_id": "k", **more})


def filled(*tickets: Ticket) -> FairQueue:
    queue = FairQueue()
    for each in tickets:
        queue.add(each)
    return queue


def given_out(queue: FairQueue, turns: int) -> Counter[str]:
    """Tokens by tenant of the next ``turns`` requests."""
    found = Counter[str]()
    for _ in range(turns):
        each = queue.pop()
        found[each.caller.tenant] += each.tokens
    return found
