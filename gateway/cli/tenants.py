"""``roundhouse tenants``: who may use how much. Straight on the store."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.key_options import (
    Limit,
    Model,
    NoLimit,
    Priority,
    Weight,
    given,
    limits_shown,
    nothing_named,
    patterns,
    with_limits,
)
from gateway.cli.options import DryRun, HomeFolder, Json
from gateway.cli.output import show_json, show_table, show_text
from gateway.cli.store_access import changed, known, plain, show_change
from gateway.cli.tenant_projects import app as project_app

if TYPE_CHECKING:
    from models.store.tenancy import TenantRecord

app = typer.Typer(help="Tenants: limits, shares, prices, blocks.", rich_markup_mode=None)
app.add_typer(project_app, name="project")
TenantId = Annotated[str, typer.Argument(metavar="TENANT", help="Its id", show_default=False)]
Title = Annotated[str | None, typer.Option("--name", help="For people", show_default=False)]
Share = Annotated[
    float | None,
    typer.Option("--share", help="Of a model's work, at least, while it waits for it: 0.25", show_default=False),
]
Prices = Annotated[
    str | None, typer.Option("--prices", metavar="LIST", help="Its price list; '' for the usual", show_default=False)
]
MaxBody = Annotated[
    str | None, typer.Option("--max-body", metavar="SIZE", help="Of one request: 1MiB; none", show_default=False)
]
MaxPrompt = Annotated[
    int | None, typer.Option("--max-prompt-tokens", help="Of one request; 0: no cap", min=0, show_default=False)
]
MaxAnswer = Annotated[
    int | None, typer.Option("--max-answer-tokens", help="Of one request; 0: no cap", min=0, show_default=False)
]


@app.command()
def create(
    tenant_id: TenantId,
    name: Title = None,
    limit: Limit = None,
    model: Model = None,
    weight: Weight = None,
    share: Share = None,
    priority: Priority = None,
    prices: Prices = None,
    max_body: MaxBody = None,
    max_prompt: MaxPrompt = None,
    max_answer: MaxAnswer = None,
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Make a tenant: keys belong to it, and limits of it hold for all of them together."""
    from models.store.tenant_edits import creating

    options = given(
        name=name, limit=limit, model=model, weight=weight, share=share, priority=priority, prices=prices,
        max_body=max_body, max_prompt=max_prompt, max_answer=max_answer,
    )  # fmt: skip
    fields = _fields(options, None)
    tenant = changed(home, lambda known, now_s: creating(known, tenant_id, fields, now_s), dry_run=dry_run)
    said = f"the tenant {tenant_id} is made; a key of it: roundhouse keys create NAME --tenant {tenant_id}"
    show_change(said, plain(tenant), json=json, dry_run=dry_run)


@app.command("set")
def change(
    tenant_id: TenantId,
    name: Title = None,
    limit: Limit = None,
    no_limit: NoLimit = None,
    model: Model = None,
    weight: Weight = None,
    share: Share = None,
    priority: Priority = None,
    prices: Prices = None,
    max_body: MaxBody = None,
    max_prompt: MaxPrompt = None,
    max_answer: MaxAnswer = None,
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Change a tenant; what is not named stays. Gateways go by it within a second."""
    from models.store.tenant_edits import Changed, find_tenant, setting
    from models.store.tenants import Tenancy

    options = given(
        name=name, limit=limit, no_limit=no_limit, model=model, weight=weight, share=share, priority=priority,
        prices=prices, max_body=max_body, max_prompt=max_prompt, max_answer=max_answer,
    )  # fmt: skip
    if not options:
        raise nothing_named("tenants set")

    def work(known: Tenancy, _: float) -> Changed:
        return setting(known, tenant_id, _fields(options, find_tenant(known, tenant_id)))

    tenant = changed(home, work, dry_run=dry_run)
    show_change(f"the tenant {tenant_id} is changed", plain(tenant), json=json, dry_run=dry_run)


@app.command("list")
def list_all(home: HomeFolder = None, json: Json = False) -> None:
    """All tenants, the default one too."""
    found = _all(home)
    if json:
        show_json({"object": "list", "data": [plain(tenant) for tenant in found]})
        return
    columns = ("TENANT", "NAME", "KEYS", "PROJECTS", "WEIGHT", "SHARE", "PRICES", "LIMITS", "STATE")
    rows = (
        (
            tenant.tenant_id,
            tenant.name,
            len(tenant.keys),
            ", ".join(tenant.projects),
            f"{tenant.weight:g}",
            f"{tenant.guaranteed_share:.0%}" if tenant.guaranteed_share else "",
            tenant.price_list,
            ", ".join(tenant.limits_text),
            f"blocked: {tenant.blocked}" if tenant.blocked else "",
        )
        for tenant in found
    )
    show_table(columns, rows, "There are no tenants.")


@app.command()
def show(tenant_id: TenantId, home: HomeFolder = None, json: Json = False) -> None:
    """One tenant with its limits, projects and keys."""
    from gateway.cli.store_access import cli_error
    from gateway.tenancy_views import tenant_view, working_keys
    from models.store.errors import TenancyRefused
    from models.store.tenant_edits import find_tenant

    all_of_it = known(home)
    try:
        tenant = find_tenant(all_of_it, tenant_id)
    except TenancyRefused as refused:
        raise cli_error(refused) from None
    found = plain(tenant_view(all_of_it, tenant, working_keys(all_of_it, time.time())))
    if json:
        show_json(found)
    else:
        show_text("\n".join(_lines(found)))


@app.command()
def block(
    tenant_id: TenantId,
    reason: Annotated[str, typer.Option("--reason", help="Its callers are told", show_default=False)],
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Refuse all requests of a tenant, everywhere within a second."""
    from models.store.tenant_edits import blocking

    tenant = changed(home, lambda known, _: blocking(known, tenant_id, reason), dry_run=dry_run)
    show_change(f"the tenant {tenant_id} is blocked: {reason}", plain(tenant), json=json, dry_run=dry_run)


@app.command()
def unblock(tenant_id: TenantId, dry_run: DryRun = False, home: HomeFolder = None, json: Json = False) -> None:
    """Let a tenant call again."""
    from models.store.tenant_edits import blocking

    tenant = changed(home, lambda known, _: blocking(known, tenant_id, ""), dry_run=dry_run)
    show_change(f"the tenant {tenant_id} may call", plain(tenant), json=json, dry_run=dry_run)


@app.command()
def delete(tenant_id: TenantId, dry_run: DryRun = False, home: HomeFolder = None, json: Json = False) -> None:
    """Delete a tenant that has no keys that work. What it used stays on record."""
    from gateway.tenancy_views import keys_of
    from models.store.tenant_edits import deleting

    tenant = changed(
        home,
        lambda known, now_s: deleting(known, tenant_id, keys_of(known, tenant_id, now_s)),
        dry_run=dry_run,
    )
    show_change(f"the tenant {tenant_id} is deleted", plain(tenant), json=json, dry_run=dry_run)


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML or JSON, as `tenants export` writes it")],
    prune: Annotated[bool, typer.Option("--prune", help="Tenants, projects and prices not in it go.")] = False,
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Tenants, prices and the house's rules as a file says. Shows what changes; all of it is done in one step."""
    from gateway.cli.tenancy_file import read_file, show_applied
    from gateway.tenancy_file import applying

    document = read_file(file)
    applied = changed(
        home,
        lambda known, now_s: applying(known, document, now_s, prune=prune, dry_run=dry_run),
        dry_run=dry_run,
    )
    show_applied(applied, json=json)


@app.command()
def export(home: HomeFolder = None, json: Json = False) -> None:
    """All of it as `tenants apply` reads it, but for the secrets of webhooks."""
    from gateway.cli.tenancy_file import show_exported

    show_exported(known(home), json=json)


def _fields(options: dict[str, Any], tenant: TenantRecord | None) -> dict[str, Any]:
    """As records have them. Raises AskedWrongly."""
    import msgspec

    from models.store.tenancy import Caps

    fields = given(name=options.get("name"), weight=options.get("weight"), priority=options.get("priority"))
    fields |= given(guaranteed_share=options.get("share"), price_list=options.get("prices"))
    if "model" in options:
        fields["models"] = patterns(options["model"])
    if "limit" in options or "no_limit" in options:
        rules = tenant.limits if tenant is not None else ()
        fields["limits"] = with_limits(rules, options.get("limit"), options.get("no_limit"))
    caps: dict[str, int | None] = {}
    for option, name in (("max_prompt", "max_prompt_tokens"), ("max_answer", "max_answer_tokens")):
        if option in options:
            caps[name] = options[option] or None
    if "max_body" in options:
        caps["max_body_bytes"] = _bytes(options["max_body"])
    if caps:
        fields["caps"] = msgspec.structs.replace(tenant.caps if tenant is not None else Caps(), **caps)
    return fields


def _bytes(text: str) -> int | None:
    from gateway.cli.errors import AskedWrongly
    from models.catalog.errors import UnitError
    from models.catalog.units import parse_bytes

    if text.strip() == "none":
        return None
    try:
        return parse_bytes(text)
    except UnitError as wrong:
        raise AskedWrongly(f"--max-body: {wrong.message}", code="usage", cure=f"{wrong.cure}, or none") from None


def _all(home: HomeFolder) -> list[Any]:
    from gateway.tenancy_views import views

    return list(views(known(home), time.time()))


def _lines(tenant: dict[str, Any]) -> list[str]:
    caps = ", ".join(f"{name} {value}" for name, value in tenant["caps"].items() if value is not None)
    facts = {
        "tenant": tenant["tenant_id"],
        "name": tenant["name"],
        "state": f"blocked: {tenant['blocked']}" if tenant["blocked"] else "may call",
        "weight": f"{tenant['weight']:g}",
        "guaranteed share": f"{tenant['guaranteed_share']:.0%}" if tenant["guaranteed_share"] else "",
        "priority": tenant["priority"] or "",
        "models": ", ".join(tenant["models"]) or "all",
        "prices": tenant["price_list"] or "the usual",
        "limits": ", ".join(tenant["limits_text"]) or "none of its own",
        "caps": caps,
        "keys": ", ".join(tenant["keys"]) or "none that works",
    }
    lines = [f"{name:<17} {value}" for name, value in facts.items() if value != ""]
    for name, project in tenant["projects"].items():
        state = f" (blocked: {project['blocked']})" if project["blocked"] else ""
        lines.append(f"{'project':<17} {name}{state}: {limits_shown(project) or 'no limits of its own'}")
    return lines
