"""Tenants, prices and the house's rules as one document, and what has to change for it to be so. Pure.

A tenant, a project and a price list are as they are written: what is left out of one is as usual. Of the house what is
left out stays as it is, and so does a block of a tenant or project, which is an act of the moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from pydantic import Field

from gateway.tenancy_documents import Applied, Difference
from gateway.tenancy_fields import (
    BlockFields,
    Fields,
    HouseFields,
    PriceFields,
    ProjectFields,
    TenantFields,
    WebhookFields,
    webhook_of,
)
from models.store.api_keys import has_ended
from models.store.audit import HIDDEN
from models.store.checks import check_house, check_name, check_price_list, check_tenant
from models.store.errors import TenancyRefused
from models.store.house_edits import PRICED, blocked_name, is_over
from models.store.limit_text import limit_text
from models.store.tenancy import (
    Block,
    Caps,
    HouseRecord,
    LimitRule,
    PriceList,
    ProjectRecord,
    TenantRecord,
)
from models.store.tenants import Edit, Place, Tenancy

Lines = Annotated[tuple[PriceFields, ...], Field(max_length=1000)]


class TenantSection(TenantFields):
    projects: dict[str, ProjectFields] = Field(default_factory=dict)


class HouseSection(HouseFields):
    """``webhooks``, ``blocks``: all that there are to be."""

    webhooks: tuple[WebhookFields, ...] = ()
    blocks: tuple[BlockFields, ...] = ()


class TenancyFile(Fields):
    """``prices``: price lists by name; ``house.default_price_list`` says which one counts for all."""

    house: HouseSection = HouseSection()
    prices: dict[str, Lines] = Field(default_factory=dict)
    tenants: dict[str, TenantSection] = Field(default_factory=dict)


def applying(
    known: Tenancy, document: TenancyFile, now_unix_s: float, *, prune: bool, dry_run: bool = False
) -> tuple[list[Edit], Applied]:
    """``prune``: what is not in it goes. Raises TenancyRefused with the field's path in the document."""
    house, secrets = _house(known, document, now_unix_s, prune=prune)
    tenants = _tenants(known, document, now_unix_s, prune=prune)
    _check(known, house, tenants, now_unix_s)
    edits = [] if house == known.house else [Edit(Place.HOUSE, "", house, "house.apply", "house")]
    for name in sorted({*known.tenants, *tenants}):
        before, after = known.tenants.get(name), tenants.get(name)
        if before != after:
            verb = "create" if before is None else "delete" if after is None else "set"
            edits.append(Edit(Place.TENANT, name, after, f"tenant.{verb}", name))
    found = differences(known, house, tenants)
    new_secrets = {} if dry_run else secrets
    return edits, Applied(version=known.version, dry_run=dry_run, differences=found, new_secrets=new_secrets)


def differences(known: Tenancy, house: HouseRecord, tenants: Mapping[str, TenantRecord]) -> tuple[Difference, ...]:
    """Field by field, by their paths."""
    before = _flat(_plain(known.house, known.tenants))
    after = _flat(_plain(house, tenants))
    paths = sorted({*before, *after})
    return tuple(
        Difference(path=path, before=before.get(path), after=after.get(path))
        for path in paths
        if before.get(path) != after.get(path)
    )


def _house(
    known: Tenancy, document: TenancyFile, now_unix_s: float, *, prune: bool
) -> tuple[HouseRecord, dict[str, str]]:
    section, secrets = document.house, dict[str, str]()
    fields = section.given
    if "webhooks" in fields:
        hooks = [webhook_of(known.house, one) for one in section.webhooks]
        fields["webhooks"] = tuple(hook for hook, _ in hooks)
        for _, new in hooks:
            secrets |= new
    if "blocks" in fields:
        fields["blocks"] = tuple(_block(known, one, now_unix_s) for one in section.blocks)
    if "prices" in document.model_fields_set:
        lists = {
            name: PriceList(name=name, lines=tuple(line.line for line in lines))
            for name, lines in document.prices.items()
        }
        fields["price_lists"] = lists if prune else {**known.house.price_lists, **lists}
    house = msgspec.structs.replace(known.house, **fields)
    if any(getattr(house, name) != getattr(known.house, name) for name in PRICED):
        house = msgspec.structs.replace(house, version=known.house.version + 1)
    return house, secrets


def _block(known: Tenancy, given: BlockFields, now_unix_s: float) -> Block:
    """One that is there already has begun when it did."""
    named = blocked_name(known, given.what)
    before = next((one for one in known.house.blocks if one.what == named and not is_over(one, now_unix_s)), None)
    since_s = before.since_unix_s if before is not None else now_unix_s
    return Block(what=named, reason=given.reason, since_unix_s=since_s, until_unix_s=given.until_unix_s)


def _tenants(known: Tenancy, document: TenancyFile, now_unix_s: float, *, prune: bool) -> dict[str, TenantRecord]:
    written = {
        name: _tenant(known.tenants.get(name), name, one, now_unix_s, prune=prune)
        for name, one in document.tenants.items()
    }
    if "tenants" not in document.model_fields_set or not prune:
        return {**known.tenants, **written}
    return written


def _tenant(
    before: TenantRecord | None, name: str, section: TenantSection, now_unix_s: float, *, prune: bool
) -> TenantRecord:
    fields = section.given
    caps: Caps = section.caps.over(Caps())
    projects = {
        project: _project(before.projects.get(project) if before is not None else None, project, one)
        for project, one in section.projects.items()
    }
    if before is not None:
        fields.setdefault("blocked", before.blocked)
        projects = projects if prune else {**before.projects, **projects}
    created_s = before.created_unix_s if before is not None else now_unix_s
    given = {**fields, "caps": caps, "projects": projects}
    return TenantRecord(tenant_id=name, created_unix_s=created_s, **given)


def _project(before: ProjectRecord | None, name: str, section: ProjectFields) -> ProjectRecord:
    fields = section.given
    if before is not None:
        fields.setdefault("blocked", before.blocked)
    return ProjectRecord(name=name, **fields)


def _check(known: Tenancy, house: HouseRecord, tenants: Mapping[str, TenantRecord], now_unix_s: float) -> None:
    """All of it together, as each leans on others. Raises TenancyRefused."""
    for name, prices in house.price_lists.items():
        with_path(f"prices.{name}", lambda prices=prices: check_price_list(prices))
    with_path("house", lambda: check_house(house))
    for name, tenant in tenants.items():
        with_path("tenants", lambda name=name: check_name(name, name, "tenant"))
        with_path(f"tenants.{name}", lambda tenant=tenant: check_tenant(tenant, house))
    for index, hook in enumerate(house.webhooks):
        if hook.tenant and hook.tenant not in tenants:
            raise TenancyRefused(f"there is no tenant {hook.tenant[:80]!r}", f"house.webhooks[{index}].tenant")
    for key in known.keys.values():
        if not has_ended(key, now_unix_s):
            _check_home(key.key_id, key.tenant, key.project, known, tenants)


def _check_home(key_id: str, tenant: str, project: str, known: Tenancy, tenants: Mapping[str, TenantRecord]) -> None:
    """A key that works keeps its tenant and project."""
    if tenant in known.tenants and tenant not in tenants:
        said = f"{tenant!r} is not in it, but its key {key_id} works; first: roundhouse keys revoke {key_id}"
        raise TenancyRefused(said, f"tenants.{tenant}", "keys_in_use")
    before, after = known.tenants.get(tenant), tenants.get(tenant)
    if before is not None and after is not None and project in before.projects and project not in after.projects:
        said = (
            f"the project {project!r} is not in it, but its key {key_id} works; first: roundhouse keys revoke {key_id}"
        )
        raise TenancyRefused(said, f"tenants.{tenant}.projects", "keys_in_use")


def with_path(path: str, check: Any) -> None:
    """Raises what ``check`` does, its field below ``path``."""
    try:
        check()
    except TenancyRefused as wrong:
        raise TenancyRefused(str(wrong), f"{path}.{wrong.field}" if wrong.field else path, wrong.code) from None


def _plain(house: HouseRecord, tenants: Mapping[str, TenantRecord]) -> dict[str, Any]:
    """By the document's names."""
    shown = msgspec.structs.asdict(house)
    prices = {
        name: {line.model: msgspec.structs.asdict(line) for line in one.lines}
        for name, one in shown.pop("price_lists").items()
    }
    del shown["version"]
    shown["blocks"] = {one.what: one for one in house.blocks}
    shown["webhooks"] = {f"{one.url} {one.tenant}".strip(): one for one in house.webhooks}
    return {
        "house": shown,
        "prices": prices,
        "tenants": {name: msgspec.structs.asdict(one) for name, one in tenants.items()},
    }


def _flat(value: Any, path: str = "") -> dict[str, str]:
    """Leaves as text, by their paths; what is empty is left out."""
    if isinstance(value, msgspec.Struct) and not isinstance(value, LimitRule):
        value = msgspec.structs.asdict(value)
    if isinstance(value, Mapping):
        found: dict[str, str] = {}
        for name, part in value.items():
            at = f"{path}.{name}" if path else str(name)
            found |= {at: HIDDEN} if name == "secret" else _flat(part, at)
        return found
    if isinstance(value, tuple):
        text = ", ".join(limit_text(part) if isinstance(part, LimitRule) else str(part) for part in value)
        return {path: text} if text else {}
    if value is None or value == "" or path.endswith(("created_unix_s", "since_unix_s", ".tenant_id")):
        return {}
    if isinstance(value, Decimal):
        return {path: format(value, "f")} if value or path.endswith("cached_token") else {}
    return {path: format(value, "g") if isinstance(value, float) else str(value)}
