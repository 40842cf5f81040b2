"""All tenants and the house's rules, as this worker knows them; ``gateway.sync`` keeps them new."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from models.store.tenancy import DEFAULT_PROJECT, HouseRecord, TenantRecord

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class TenantBook:
    """``version``: of the store's; -1 before the first look. ``generation``: one more whenever something changed here.
    ``awaited``: there is a store, and nobody is let in before its word: budgets must not be missed.

    What did not change stays the same object, so that what was worked out from it stays right.
    """

    house: HouseRecord = field(default_factory=HouseRecord)
    tenants: dict[str, TenantRecord] = field(default_factory=dict)
    version: int = -1
    generation: int = 0
    awaited: bool = False

    @property
    def loaded(self) -> bool:
        return self.version >= 0

    def knows(self, tenant: str, project: str) -> bool:
        known = self.tenants.get(tenant)
        return known is not None and (project in known.projects or project == DEFAULT_PROJECT)

    def offer(self, version: int, house: HouseRecord, tenants: Mapping[str, TenantRecord]) -> bool:
        """Go by this from now on. False: it is what is known."""
        kept = {name: _same(self.tenants.get(name), tenant) for name, tenant in tenants.items()}
        house = _same(self.house, house)
        tenants_same = kept.keys() == self.tenants.keys() and all(kept[name] is self.tenants[name] for name in kept)
        same = self.loaded and house is self.house and tenants_same
        self.version = version
        if same:
            return False
        self.house, self.tenants = house, kept
        self.generation += 1
        return True


def _same(before: T | None, now: T) -> T:
    return before if before is not None and before == now else now
