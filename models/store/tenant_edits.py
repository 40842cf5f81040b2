"""Tenants and their projects are made, changed, blocked and deleted. Pure: what is to become of what is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from models.store.checks import check_name, check_tenant
from models.store.errors import NotThere, TenancyRefused
from models.store.records import KeyRecord
from models.store.tenancy import DEFAULT_PROJECT, DEFAULT_TENANT, ProjectRecord, TenantRecord
from models.store.tenants import Edit, Place, Tenancy

SETTABLE = (
    "name", "weight", "guaranteed_share", "priority", "limits", "caps", "price_list", "models", "blocked",
)  # fmt: skip
PROJECT_SETTABLE = ("limits", "blocked")
MOST_SHOWN = 5

Changed = tuple[Sequence[Edit], TenantRecord]


def find_tenant(known: Tenancy, tenant_id: str) -> TenantRecord:
    """The default one is there although nobody has made it. Raises NotThere."""
    found = known.tenants.get(tenant_id)
    if found is None and tenant_id == DEFAULT_TENANT:
        return TenantRecord(tenant_id=DEFAULT_TENANT)
    if found is None:
        said = f"there is no tenant {tenant_id[:80]!r}; `roundhouse tenants list` shows those that there are"
        raise NotThere(said, "tenant_id", "tenant_not_found")
    return found


def find_project(tenant: TenantRecord, name: str) -> ProjectRecord:
    """The default one is there although nobody has made it. Raises NotThere."""
    found = tenant.projects.get(name)
    if found is None and name == DEFAULT_PROJECT:
        return ProjectRecord(name=name)
    if found is None:
        names = ", ".join(sorted({DEFAULT_PROJECT, *tenant.projects}))
        said = f"the tenant {tenant.tenant_id!r} has no project {name[:80]!r}; it has {names}"
        raise NotThere(said, "project", "project_not_found")
    return found


def creating(known: Tenancy, tenant_id: str, fields: Mapping[str, Any], now_unix_s: float) -> Changed:
    """Raises TenancyRefused."""
    check_name(tenant_id, "tenant_id", "tenant")
    if tenant_id in known.tenants:
        said = f"the tenant {tenant_id!r} is there already; change it: roundhouse tenants set {tenant_id}"
        raise TenancyRefused(said, "tenant_id", "tenant_exists")
    record = TenantRecord(tenant_id=tenant_id, created_unix_s=now_unix_s)
    return _becomes(known, _with(record, fields), "tenant.create")


def setting(known: Tenancy, tenant_id: str, fields: Mapping[str, Any], act: str = "tenant.set") -> Changed:
    """Raises TenancyRefused."""
    return _becomes(known, _with(find_tenant(known, tenant_id), fields), act)


def blocking(known: Tenancy, tenant_id: str, reason: str) -> Changed:
    """``reason``: its callers are told; "" lets them call again. Raises TenancyRefused."""
    return setting(known, tenant_id, {"blocked": reason}, "tenant.block" if reason else "tenant.unblock")


def deleting(known: Tenancy, tenant_id: str, working: Sequence[KeyRecord]) -> Changed:
    """``working``: its keys that work, which must be ended first. Raises TenancyRefused."""
    tenant = find_tenant(known, tenant_id)
    if tenant_id not in known.tenants:
        raise TenancyRefused("the tenant 'default' is always there", "tenant_id", "tenant_is_default")
    _refuse_keys(working, f"the tenant {tenant_id!r}", "tenant_id")
    return [Edit(Place.TENANT, tenant_id, None, "tenant.delete", tenant_id)], tenant


def project_creating(known: Tenancy, tenant_id: str, name: str, fields: Mapping[str, Any]) -> Changed:
    """Raises TenancyRefused."""
    check_name(name, "name", "project")
    tenant = find_tenant(known, tenant_id)
    if name in tenant.projects:
        raise TenancyRefused(f"the project {name!r} is there already", "name", "project_exists")
    return _with_project(known, tenant, _project(ProjectRecord(name=name), fields), "project.create")


def project_setting(
    known: Tenancy, tenant_id: str, name: str, fields: Mapping[str, Any], act: str = "project.set"
) -> Changed:
    """Raises TenancyRefused."""
    tenant = find_tenant(known, tenant_id)
    return _with_project(known, tenant, _project(find_project(tenant, name), fields), act)


def project_deleting(known: Tenancy, tenant_id: str, name: str, working: Sequence[KeyRecord]) -> Changed:
    """``working``: keys of the tenant that work. Raises TenancyRefused."""
    tenant = find_tenant(known, tenant_id)
    gone = find_project(tenant, name)
    if name not in tenant.projects:
        raise TenancyRefused("the project 'default' is always there", "project", "project_is_default")
    _refuse_keys([key for key in working if key.project == name], f"the project {name!r}", "project")
    rest = {other: project for other, project in tenant.projects.items() if other != name}
    changed = msgspec.structs.replace(tenant, projects=rest)
    return _edit(known, changed, "project.delete", f"{tenant_id}/{name}", gone, None), changed


def _with_project(known: Tenancy, tenant: TenantRecord, project: ProjectRecord, act: str) -> Changed:
    changed = msgspec.structs.replace(tenant, projects={**tenant.projects, project.name: project})
    check_tenant(changed, known.house)
    if changed == known.tenants.get(tenant.tenant_id):
        return [], changed
    before = tenant.projects.get(project.name)
    return _edit(known, changed, act, f"{tenant.tenant_id}/{project.name}", before, project), changed


def _becomes(known: Tenancy, record: TenantRecord, act: str) -> Changed:
    check_tenant(record, known.house)
    if record == known.tenants.get(record.tenant_id):
        return [], record
    return [Edit(Place.TENANT, record.tenant_id, record, act, record.tenant_id)], record


def _edit(known: Tenancy, tenant: TenantRecord, act: str, what: str, before: object, after: object) -> list[Edit]:
    return [Edit(Place.TENANT, tenant.tenant_id, tenant, act, what, shown_before=before, shown_after=after)]


def _with(record: TenantRecord, fields: Mapping[str, Any]) -> TenantRecord:
    given = {name: value for name, value in fields.items() if name in SETTABLE}
    return msgspec.structs.replace(record, **given)


def _project(record: ProjectRecord, fields: Mapping[str, Any]) -> ProjectRecord:
    given = {name: value for name, value in fields.items() if name in PROJECT_SETTABLE}
    return msgspec.structs.replace(record, **given)


def _refuse_keys(working: Sequence[KeyRecord], whose: str, field: str) -> None:
    if working:
        ids = sorted({key.key_id for key in working})
        names = ", ".join(ids[:MOST_SHOWN]) + (f" and {len(ids) - MOST_SHOWN} more" if len(ids) > MOST_SHOWN else "")
        raise TenancyRefused(f"{whose} has keys that work: {names}; revoke them first", field, "keys_in_use")
