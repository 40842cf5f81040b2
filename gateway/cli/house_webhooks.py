"""``roundhouse house webhooks``: who is told of budgets, anomalies and blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.errors import AskedWrongly, CliError
from gateway.cli.options import DryRun, HomeFolder, Json
from gateway.cli.output import say, show_json, show_table, show_text
from gateway.cli.store_access import changed, known, plain, show_change

if TYPE_CHECKING:
    from models.store.tenants import Edit, Tenancy

app = typer.Typer(help="Webhooks: told of budgets, anomalies, blocks; signed.", rich_markup_mode=None)
Url = Annotated[str, typer.Argument(metavar="URL", show_default=False)]


@app.command("list")
def list_all(home: HomeFolder = None, json: Json = False) -> None:
    """Without their secrets."""
    from gateway.tenancy_views import without_secrets

    hooks = without_secrets(known(home).house).webhooks
    if json:
        show_json({"object": "list", "data": [plain(hook) for hook in hooks]})
        return
    rows = ((hook.url, hook.tenant, ", ".join(hook.events), "yes" if hook.allow_private else "") for hook in hooks)
    show_table(("URL", "TENANT", "EVENTS", "PRIVATE"), rows, "There are no webhooks.")


@app.command()
def add(
    url: Url,
    event: Annotated[
        list[str] | None,
        typer.Option("--event", metavar="PATTERN", help="budget.*, usage.anomaly; default: all", show_default=False),
    ] = None,
    tenant: Annotated[str, typer.Option("--tenant", help="Of this one only", show_default=False)] = "",
    private: Annotated[bool, typer.Option("--private", help="It may be on this machine or a private network.")] = False,
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Tell this URL. The secret that payloads are signed with is shown this once, where it is a new one."""
    from gateway.tenancy_fields import WebhookFields, webhook_of
    from models.store.house_edits import webhook_adding

    if not private and _is_private(url):
        raise AskedWrongly(f"{url} is not on the internet", code="usage", cure="if it is meant: --private")
    asked = WebhookFields(url=url, events=tuple(event or ("*",)), tenant=tenant, allow_private=private)

    def work(known: Tenancy, _: float) -> tuple[list[Edit], dict[str, str]]:
        hook, new = webhook_of(known.house, asked)
        return list(webhook_adding(known, hook)[0]), new

    new = changed(home, work, dry_run=dry_run)
    secret: Any = None if dry_run else new.get(url)
    if json:
        show_json({"url": url, "secret": secret, **({"dry_run": True} if dry_run else {})})
    elif secret:
        say(f"{url} is told. Payloads are signed with this secret, which is shown this once:")
        show_text(secret)
    else:
        show_text(f"not done, only tried: {url} is told" if dry_run else f"{url} is told; its secret is as it was")


@app.command()
def remove(url: Url, dry_run: DryRun = False, home: HomeFolder = None, json: Json = False) -> None:
    """Do not tell this URL any more."""
    from models.store.house_edits import webhook_removing

    house = changed(home, lambda known, _: webhook_removing(known, url), dry_run=dry_run)
    document = {"object": "list", "data": [hook.url for hook in house.webhooks]}
    show_change(f"{url} is not told any more", document, json=json, dry_run=dry_run)


@app.command("test")
def try_out(home: HomeFolder = None, json: Json = False) -> None:
    """Tell every webhook, from this machine, that it is reached; what came of each. Exit status 1 if one is not."""
    import asyncio

    from gateway.billing.webhooks import try_all
    from gateway.clock import Clock

    hooks = known(home).house.webhooks
    if not hooks:
        raise CliError("there are no webhooks", code="webhook_not_found", cure="roundhouse house webhooks add URL")
    found = asyncio.run(try_all(hooks, Clock()))
    told = [{"url": hook.url, "tenant": hook.tenant, "ok": one.ok, "reason": one.reason} for hook, one in found]
    if json:
        show_json({"object": "list", "data": told})
    else:
        rows = ((one["url"], one["tenant"], "reached" if one["ok"] else one["reason"]) for one in told)
        show_table(("URL", "TENANT", "OUTCOME"), rows, "")
    if not all(one["ok"] for one in told):
        raise typer.Exit(1)


def _is_private(url: str) -> bool:
    """Of an address in place of a name; names are looked up when they are called."""
    from urllib.parse import urlsplit

    from gateway.abuse.networks import is_public, parse_address

    address = parse_address(urlsplit(url).hostname or "")
    return address is not None and not is_public(address)
