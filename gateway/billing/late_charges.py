"""What budgets are charged when a request is settled: its part of the start that it waited for. Pure.

A worker that lets a request in cannot know what a start will take, nor how many will share it, and holds nothing back
for it; all else a request has paid for when it ends (``gateway.limits``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gateway.accounts import Account, Placed, caller_of
from gateway.limits.reading import Correction, correction
from gateway.limits.windows import UnknownWindow
from models.store.keys import Keys
from models.store.records import KeyRecord
from models.store.tenancy import HouseRecord, ProjectRecord, TenantRecord, What
from models.store.usage import SettledEvent

START = "start_gpu_second"  # the line of a price that is for starts
NS_IN_US = 1000


@dataclass(frozen=True, slots=True)
class Holders:
    """Of budgets, as they are now. ``api_keys``: by id."""

    house: HouseRecord = field(default_factory=HouseRecord)
    tenants: Mapping[str, TenantRecord] = field(default_factory=dict)
    api_keys: Mapping[str, KeyRecord] = field(default_factory=dict)

    def rules(self, event: SettledEvent) -> tuple[Placed, ...]:
        """All that hold for it; of a key that is gone nobody knows its own."""
        tenant = self.tenants.get(event.tenant) or TenantRecord(tenant_id=event.tenant)
        project = tenant.projects.get(event.project) or ProjectRecord(name=event.project)
        key = self.api_keys.get(event.key_id) or KeyRecord(
            key_id=event.key_id, name="", scopes=(), prefix="", created_unix_s=0.0
        )
        return Account(caller_of(key, tenant), key, project, tenant, self.house).rules(event.model)


def late_charges(keys: Keys, settled: Iterable[SettledEvent], holders: Holders) -> list[Correction]:
    """Of requests; what owners bear of their models' starts is nobody's request."""
    found = []
    for event in settled:
        if not event.start_gpu_ns or not event.key_id:
            continue
        units = {What.MONEY: event.lines.get(START, 0), What.GPU_SECONDS: event.start_gpu_ns // NS_IN_US}
        for placed in holders.rules(event):
            try:
                one = correction(keys, placed, units.get(placed.rule.what, 0), event.started_us)
            except UnknownWindow:
                continue  # nobody counts by it
            if one is not None:
                found.append(one)
    return found
