"""Tenants and their projects over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import Field

from gateway.documents import Version, answer, shape
from gateway.tenancy_calls import TenancyCalls
from gateway.tenancy_documents import Applied, TenantList, TenantView
from gateway.tenancy_fields import ProjectFields, TenantFields
from gateway.tenancy_file import TenancyFile, applying
from gateway.tenancy_views import keys_of, tenant_view, views, working_keys
from models.store import tenant_edits
from models.store.tenancy import Caps, TenantRecord
from models.store.tenants import Tenancy


class NewTenant(TenantFields):
    """``tenant_id``: for good; it is what invoices and usage go by."""

    tenant_id: Annotated[str, Field(min_length=1, max_length=63)]


class NewProject(ProjectFields):
    project: Annotated[str, Field(min_length=1, max_length=63)]


def tenants_router(calls: TenancyCalls) -> APIRouter:
    router = APIRouter(prefix="/tenants")
    _add_reading(router, calls)
    _add_changing(router, calls)
    _add_projects(router, calls)
    return router


def _add_reading(router: APIRouter, calls: TenancyCalls) -> None:
    @router.get("", responses=shape(TenantList), operation_id="list_tenants")
    async def list_all() -> Response:
        """By id, the default one too."""
        known = await calls.read()
        now_s = calls.clock.unix()
        return answer(TenantList(version=known.version, data=tuple(views(known, now_s))))

    @router.get("/{tenant_id}", responses=shape(TenantView), operation_id="show_tenant")
    async def show(tenant_id: str) -> Response:
        def look(known: Tenancy, now_s: float) -> tuple[tuple[()], TenantView]:
            tenant = tenant_edits.find_tenant(known, tenant_id)
            return (), tenant_view(known, tenant, working_keys(known, now_s))

        return answer(await calls.change(look, dry_run=True))


def _add_changing(router: APIRouter, calls: TenancyCalls) -> None:
    @router.post("", responses=shape(TenantRecord, 201), status_code=201, operation_id="create_tenant")
    async def create(order: NewTenant, version: Version = None, dry_run: bool = False) -> Response:
        fields = tenant_fields(order, None)
        made = await calls.change(
            lambda known, now_s: tenant_edits.creating(known, order.tenant_id, fields, now_s),
            version=version,
            dry_run=dry_run,
        )
        return answer(made, 201)

    @router.post("/apply", responses=shape(Applied), operation_id="apply_tenants")
    async def apply(
        document: TenancyFile, prune: bool = False, version: Version = None, dry_run: bool = False
    ) -> Response:
        """What `roundhouse tenants apply` reads from a file: tenants, prices and the house's rules as they are to be.
        ``prune``: tenants, projects and price lists that are not in it go. ``dry_run``: only say what would change."""
        applied = await calls.change(
            lambda known, now_s: applying(known, document, now_s, prune=prune, dry_run=dry_run),
            version=version,
            dry_run=dry_run,
        )
        return answer(applied)

    @router.patch("/{tenant_id}", responses=shape(TenantRecord), operation_id="set_tenant")
    async def change(tenant_id: str, order: TenantFields, version: Version = None, dry_run: bool = False) -> Response:
        """What is left out stays as it is. ``blocked``: "" lets its callers in again."""

        def work(known: Tenancy, now_s: float) -> tenant_edits.Changed:
            tenant = tenant_edits.find_tenant(known, tenant_id)
            return tenant_edits.setting(known, tenant_id, tenant_fields(order, tenant))

        return answer(await calls.change(work, version=version, dry_run=dry_run))

    @router.delete("/{tenant_id}", responses=shape(TenantRecord), operation_id="delete_tenant")
    async def delete(tenant_id: str, version: Version = None, dry_run: bool = False) -> Response:
        """Refused while it has keys that work. What it used stays on record."""

        def work(known: Tenancy, now_s: float) -> tenant_edits.Changed:
            return tenant_edits.deleting(known, tenant_id, keys_of(known, tenant_id, now_s))

        return answer(await calls.change(work, version=version, dry_run=dry_run))


def _add_projects(router: APIRouter, calls: TenancyCalls) -> None:
    @router.post(
        "/{tenant_id}/projects", responses=shape(TenantRecord, 201), status_code=201, operation_id="add_project"
    )
    async def create(tenant_id: str, order: NewProject, version: Version = None, dry_run: bool = False) -> Response:
        made = await calls.change(
            lambda known, _: tenant_edits.project_creating(known, tenant_id, order.project, order.given),
            version=version,
            dry_run=dry_run,
        )
        return answer(made, 201)

    @router.patch("/{tenant_id}/projects/{project}", responses=shape(TenantRecord), operation_id="set_project")
    async def change(
        tenant_id: str, project: str, order: ProjectFields, version: Version = None, dry_run: bool = False
    ) -> Response:
        changed = await calls.change(
            lambda known, _: tenant_edits.project_setting(known, tenant_id, project, order.given),
            version=version,
            dry_run=dry_run,
        )
        return answer(changed)

    @router.delete("/{tenant_id}/projects/{project}", responses=shape(TenantRecord), operation_id="delete_project")
    async def delete(tenant_id: str, project: str, version: Version = None, dry_run: bool = False) -> Response:
        """Refused while it has keys that work."""

        def work(known: Tenancy, now_s: float) -> tenant_edits.Changed:
            return tenant_edits.project_deleting(known, tenant_id, project, keys_of(known, tenant_id, now_s))

        return answer(await calls.change(work, version=version, dry_run=dry_run))


def tenant_fields(order: TenantFields, tenant: TenantRecord | None) -> dict[str, Any]:
    """As records have them. Caps that are not named stay."""
    given = order.given
    if "caps" in given:
        given["caps"] = order.caps.over(tenant.caps if tenant is not None else Caps())
    return given
