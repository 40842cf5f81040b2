"""Alerts as the script writes them: all of their JSON but for what only it knows, how much is used and when."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from gateway.accounts import Placed
from models.store.alerts import Alert, Kind
from models.store.codec import encode

_OWN = ("key:", "project:", "tenant:")


@lru_cache(maxsize=4096)
def alarms_of(placed: Placed, tenant: str) -> tuple[tuple[str, int, str], ...]:
    """(field of the counter, units from which on, head of the alert), by rising shares."""
    rule = placed.rule
    alarms = []
    for share in sorted(set(rule.alert_at)):
        text = f"{share:.0%} of {rule.amount:f} {rule.what} per {rule.per or 'moment'} of {placed.place} is used"
        head = _head(Kind.BUDGET_THRESHOLD, placed, tenant, share, text)
        alarms.append((f"a:{share:g}", max(1, int(rule.units * share)), head))
    return tuple(alarms)


@lru_cache(maxsize=4096)
def exceeded_of(placed: Placed, tenant: str) -> str:
    """ "": nobody is told."""
    rule = placed.rule
    if not (rule.hard and rule.is_budget):
        return ""
    text = f"{rule.amount:f} {rule.what} per {rule.per} of {placed.place} are used up: requests are refused"
    return _head(Kind.BUDGET_EXCEEDED, placed, tenant, None, text)


def _head(kind: Kind, placed: Placed, tenant: str, share: float | None, text: str) -> str:
    whose = tenant if placed.place.startswith(_OWN) else ""
    alert = Alert(kind, 0, placed.place, whose, placed.rule.name, share=share, amount=placed.rule.units, text=text)
    fields = msgspec.json.decode(encode(alert), type=dict[str, msgspec.Raw])
    for name in ("at", "used"):  # these the script appends
        fields.pop(name, None)
    return msgspec.json.encode(fields).decode().removesuffix("}")
