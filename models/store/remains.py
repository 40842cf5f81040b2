"""What a gateway worker that was killed had not told of its use of budgets, until that is set right
(``gateway.billing.remains``)."""

from __future__ import annotations

import msgspec

from models.store.base import Struct


class Remains(Struct, frozen=True):
    """``events``: of its last, where each ends in its log, by ``models.store.usage.identity_of``."""

    worker: str
    events: dict[str, int]


class Spent(Struct, frozen=True):
    """One of those, as it was settled. ``end``: in its worker's log. ``cost``: NANO."""

    end: int
    key_id: str
    project: str
    tenant: str
    model: str
    started_us: int
    requests: int
    input_tokens: int
    output_tokens: int
    gpu_us: int
    cost: int


class Remainder(msgspec.Struct, kw_only=True):  # it goes on
    """``waiting``: those that are not settled yet."""

    waiting: dict[str, int]
    spent: list[Spent] = msgspec.field(default_factory=list)
