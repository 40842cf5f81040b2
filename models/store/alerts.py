"""What webhooks are told: one record per occasion, in a stream. Pure but for ``tell``."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from models.store.base import Struct
from models.store.codec import encode
from models.store.keys import Keys

if TYPE_CHECKING:
    import redis.asyncio

ALERTS_MAX = 10_000
FIELD = "a"
DELIVERED, FAILED, GIVEN_UP = "delivered", "failed", "given_up"  # what telling a webhook came to


class Kind(StrEnum):
    """Of alerts. ``TEST``: an operator tries a webhook."""

    BUDGET_THRESHOLD = "budget.threshold"
    BUDGET_EXCEEDED = "budget.exceeded"
    USAGE_ANOMALY = "usage.anomaly"
    KEY_BLOCKED = "key.blocked"
    METER_BEHIND = "meter.behind"
    TEST = "webhook.test"


class Alert(Struct, frozen=True):
    """``place``: where the rule holds that it is about (``gateway.accounts.Placed``), or what else it is about.

    ``used``, ``amount``: in the rule's whole units. ``at``: Unix microseconds. ``tenant``: whom it concerns, "" for
    the operator alone.
    """

    kind: str
    at: int
    place: str = ""
    tenant: str = ""
    rule: str = ""
    share: float | None = None  # of the amount, that was crossed
    used: int | None = None
    amount: int | None = None
    text: str = ""  # for people


async def tell(client: redis.asyncio.Redis, keys: Keys, alert: Alert) -> None:
    """Raises redis.RedisError."""
    await client.xadd(keys.alerts, {FIELD: encode(alert)}, maxlen=ALERTS_MAX, approximate=True)
