"""On whose account a request goes: a key, its project and its tenant, with all the rules that hold for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from gateway.inquiry import Caller
from models.store.records import KeyRecord, ModelRoute
from models.store.tenancy import HouseRecord, LimitRule, PriceLine, ProjectRecord, TenantRecord

FREE = PriceLine(model="*")


class Placed(NamedTuple):
    """A rule where it holds: key:ID, project:TENANT/NAME, tenant:ID, or model:house for all callers together."""

    place: str
    rule: LimitRule


@dataclass(slots=True, eq=False)
class Account:
    """Made anew when its key, its tenant or the house's rules change; until then what is worked out here stays."""

    caller: Caller
    key: KeyRecord
    project: ProjectRecord
    tenant: TenantRecord
    house: HouseRecord
    _rules: dict[str, tuple[Placed, ...]] = field(default_factory=dict)
    _prices: dict[str, tuple[ModelRoute, PriceLine]] = field(default_factory=dict)

    def rules(self, model: str) -> tuple[Placed, ...]:
        """All that hold for its requests to this model, by its id."""
        raise NotImplementedError

    def price(self, route: ModelRoute) -> PriceLine:
        """By the tenant's price list, else the house's, else the model's card; FREE where none names it."""
        raise NotImplementedError


def card_price(route: ModelRoute) -> PriceLine | None:
    """None where its card has none."""
    found = {unit: Decimal(value) for unit, value in route.price.items()}
    return PriceLine(model=route.model_id, **found) if found else None
