"""``roundhouse tenants project``: parts of a tenant with limits of their own."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.key_options import Limit, NoLimit, with_limits
from gateway.cli.options import DryRun, HomeFolder, Json
from gateway.cli.store_access import changed, plain, show_change

app = typer.Typer(help="Projects of a tenant: parts with limits of their own.", rich_markup_mode=None)
TenantId = Annotated[str, typer.Argument(metavar="TENANT", show_default=False)]
ProjectName = Annotated[str, typer.Argument(metavar="PROJECT", show_default=False)]


@app.command()
def create(
    tenant: TenantId,
    project: ProjectName,
    limit: Limit = None,
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Make a project; keys are given to it with `keys create --project`."""
    from models.store.tenant_edits import project_creating

    fields = {"limits": with_limits((), limit, None)}
    found = changed(home, lambda known, _: project_creating(known, tenant, project, fields), dry_run=dry_run)
    show_change(f"the project {tenant}/{project} is made", plain(found), json=json, dry_run=dry_run)


@app.command("set")
def change(
    tenant: TenantId,
    project: ProjectName,
    limit: Limit = None,
    no_limit: NoLimit = None,
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Change a project's limits."""
    from models.store.tenant_edits import Changed, find_project, find_tenant, project_setting
    from models.store.tenants import Tenancy

    def work(known: Tenancy, _: float) -> Changed:
        rules = find_project(find_tenant(known, tenant), project).limits
        return project_setting(known, tenant, project, {"limits": with_limits(rules, limit, no_limit)})

    found = changed(home, work, dry_run=dry_run)
    show_change(f"the project {tenant}/{project} is changed", plain(found), json=json, dry_run=dry_run)


@app.command()
def block(
    tenant: TenantId,
    project: ProjectName,
    reason: Annotated[str, typer.Option("--reason", help="Its callers are told", show_default=False)],
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Refuse all requests of a project, everywhere within a second."""
    from models.store.tenant_edits import project_setting

    fields = {"blocked": reason}
    found = changed(
        home, lambda known, _: project_setting(known, tenant, project, fields, "project.block"), dry_run=dry_run
    )
    show_change(f"the project {tenant}/{project} is blocked: {reason}", plain(found), json=json, dry_run=dry_run)


@app.command()
def unblock(
    tenant: TenantId, project: ProjectName, dry_run: DryRun = False, home: HomeFolder = None, json: Json = False
) -> None:
    """Let a project call again."""
    from models.store.tenant_edits import project_setting

    fields = {"blocked": ""}
    found = changed(
        home, lambda known, _: project_setting(known, tenant, project, fields, "project.unblock"), dry_run=dry_run
    )
    show_change(f"the project {tenant}/{project} may call", plain(found), json=json, dry_run=dry_run)


@app.command()
def delete(
    tenant: TenantId, project: ProjectName, dry_run: DryRun = False, home: HomeFolder = None, json: Json = False
) -> None:
    """Delete a project that has no keys that work. What it used stays on record."""
    from gateway.tenancy_views import keys_of
    from models.store.tenant_edits import project_deleting

    found = changed(
        home,
        lambda known, now_s: project_deleting(known, tenant, project, keys_of(known, tenant, now_s)),
        dry_run=dry_run,
    )
    show_change(f"the project {tenant}/{project} is deleted", plain(found), json=json, dry_run=dry_run)
