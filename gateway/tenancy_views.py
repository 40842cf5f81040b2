"""From what the store holds of tenants and keys to what the admin API and the commands show. Pure."""

from __future__ import annotations

import msgspec

from gateway.tenancy_documents import TenantView
from models.store.api_keys import has_ended
from models.store.audit import HIDDEN
from models.store.limit_text import limit_text
from models.store.records import KeyRecord
from models.store.tenancy import DEFAULT_TENANT, HouseRecord, TenantRecord
from models.store.tenants import Tenancy


def working_keys(known: Tenancy, now_unix_s: float) -> tuple[KeyRecord, ...]:
    return tuple(key for key in known.keys.values() if not has_ended(key, now_unix_s))


def keys_of(known: Tenancy, tenant_id: str, now_unix_s: float) -> list[KeyRecord]:
    return [key for key in working_keys(known, now_unix_s) if key.tenant == tenant_id]


def views(known: Tenancy, now_unix_s: float) -> list[TenantView]:
    """By id."""
    tenants = {DEFAULT_TENANT: TenantRecord(tenant_id=DEFAULT_TENANT), **known.tenants}
    working = working_keys(known, now_unix_s)
    return [tenant_view(known, tenants[name], working) for name in sorted(tenants)]


def tenant_view(known: Tenancy, tenant: TenantRecord, working: tuple[KeyRecord, ...]) -> TenantView:
    return TenantView(
        **msgspec.structs.asdict(tenant),
        limits_text=tuple(map(limit_text, tenant.limits)),
        keys=tuple(dict.fromkeys(key.key_id for key in working if key.tenant == tenant.tenant_id)),
        version=known.version,
    )


def without_secrets(house: HouseRecord) -> HouseRecord:
    hooks = tuple(msgspec.structs.replace(hook, secret=HIDDEN) for hook in house.webhooks)
    return msgspec.structs.replace(house, webhooks=hooks)
