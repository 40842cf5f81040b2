"""``roundhouse keys``: straight on the store, so that it works before and without a gateway."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.errors import AskedWrongly
from gateway.cli.key_options import (
    Endpoint,
    Expires,
    KeyName,
    Limit,
    Model,
    NoLimit,
    Priority,
    Project,
    Scope,
    Tenant,
    Weight,
    key_fields,
    limits_shown,
    nothing_named,
)
from gateway.cli.options import DryRun, HomeFolder, Json
from gateway.cli.output import say, show_json, show_table, show_text
from gateway.cli.store_access import changed, plain, show_change, store

if TYPE_CHECKING:
    from models.store.api_keys import CreatedKey
    from models.store.records import KeyRecord

app = typer.Typer(help="Create, list, change, rotate and revoke API keys.", rich_markup_mode=None)
KeyId = Annotated[str, typer.Argument(metavar="ID", help="As listed", show_default=False)]
Overlap = Annotated[str, typer.Option("--overlap", metavar="TIME", help="How long the old text goes on working: 24h")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Who or what it is for", show_default=False)],
    scope: Scope = None,
    tenant: Tenant = None,
    project: Project = None,
    model: Model = None,
    endpoint: Endpoint = None,
    limit: Limit = None,
    expires: Expires = None,
    weight: Weight = None,
    priority: Priority = None,
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Make a key. Its text is shown this once and stored nowhere."""
    from models.store.api_keys import KeyRefused, build_key
    from models.store.key_edits import adding

    fields = key_fields(
        None, tenant=tenant, project=project, models=model, endpoints=endpoint, limits=limit, no_limits=None,
        expires=expires, weight=weight, priority=priority,
    )  # fmt: skip
    scopes = tuple(scope or ("inference",))
    try:
        made = build_key(name, scopes, time.time(), **fields)
    except KeyRefused as refused:
        raise AskedWrongly(str(refused), code="key_refused") from None
    created = changed(home, lambda known, _: adding(known, made), dry_run=dry_run)
    if dry_run:
        said = f"would make a key named {created.record.name!r} for {', '.join(created.record.scopes)}"
        _show(said, {"dry_run": True}, json)
        return
    _show_new(created, f"{created.record.key_id}, for {', '.join(scopes)}.", json)


@app.command("list")
def list_all(tenant: Tenant = None, home: HomeFolder = None, json: Json = False) -> None:
    """Every key that was made, revoked ones too; never its text."""
    from models.store.api_keys import list_keys

    with store(home) as (client, keys):
        records = [record for record in list_keys(client, keys) if tenant in (None, record.tenant)]
    if json:
        show_json({"object": "list", "data": [plain(record) for record in records]})
        return
    now_s = time.time()
    rows = (
        (
            record.key_id,
            record.name,
            f"{record.prefix}...",
            record.tenant if record.project == "default" else f"{record.tenant}/{record.project}",
            ", ".join(record.scopes),
            limits_shown({"limits": record.limits}),
            _date(record.created_unix_s),
            _state(record, now_s),
        )
        for record in records
    )
    show_table(("ID", "NAME", "KEY", "TENANT", "SCOPES", "LIMITS", "CREATED", "STATE"), rows, "There are no keys yet.")


@app.command("set")
def change(
    which: KeyId,
    name: KeyName = None,
    scope: Scope = None,
    tenant: Tenant = None,
    project: Project = None,
    model: Model = None,
    endpoint: Endpoint = None,
    limit: Limit = None,
    no_limit: NoLimit = None,
    expires: Expires = None,
    weight: Weight = None,
    priority: Priority = None,
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Change a key; what is not named stays. Gateways go by it within a second."""
    from models.store.api_keys import find_key
    from models.store.key_edits import setting
    from models.store.tenants import Edit, Tenancy

    def work(known: Tenancy, _: float) -> tuple[list[Edit], KeyRecord]:
        newest = next(iter(find_key(known.keys, which).values()))
        fields = key_fields(
            newest, tenant=tenant, project=project, models=model, endpoints=endpoint, limits=limit, no_limits=no_limit,
            expires=expires, weight=weight, priority=priority,
        )  # fmt: skip
        fields |= {} if name is None else {"name": name}
        fields |= {} if scope is None else {"scopes": tuple(scope)}
        if not fields:
            raise nothing_named("keys set")
        edits, record = setting(known, which, fields)
        return list(edits), record

    record = changed(home, work, dry_run=dry_run)
    show_change(f"{record.key_id} ({record.name}) is changed", plain(record), json=json, dry_run=dry_run)


@app.command()
def rotate(
    which: KeyId,
    overlap: Overlap = "24h",
    expires: Expires = None,
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Give a key another text, shown this once; the one that it has works a while longer. All else goes on."""
    from gateway.cli.key_options import expires_unix_s, seconds
    from models.store.key_edits import rotating

    overlap_s = seconds(overlap, "--overlap")
    new_end_s = None if expires is None else expires_unix_s(expires)
    created = changed(home, lambda known, now_s: rotating(known, which, now_s, overlap_s, new_end_s), dry_run=dry_run)
    record = created.record
    if dry_run:
        _show(f"would give {record.key_id} ({record.name}) another text", {**plain(record), "dry_run": True}, json)
        return
    _show_new(created, f"{record.key_id} ({record.name}): the old text works for {overlap} more.", json)


@app.command()
def revoke(which: KeyId, dry_run: DryRun = False, home: HomeFolder = None, json: Json = False) -> None:
    """End a key, all of its texts. Gateways stop taking it at once."""
    from models.store.key_edits import revoking

    record = changed(home, lambda known, now_s: revoking(known, which, now_s), dry_run=dry_run)
    if dry_run:
        _show(f"would revoke {record.key_id} ({record.name})", {**plain(record), "dry_run": True}, json)
        return
    _show(f"{record.key_id} ({record.name}) is revoked", plain(record), json)


def _show_new(created: CreatedKey, sentence: str, json: bool) -> None:
    if json:
        show_json({**plain(created.record), "key": created.text})
        return
    say(f"{sentence} This is the only time the key is shown:")
    show_text(created.text)


def _show(sentence: str, found: dict[str, Any], json: bool) -> None:
    if json:
        show_json(found)
    else:
        show_text(sentence)


def _state(record: KeyRecord, now_unix_s: float) -> str:
    if record.revoked_unix_s is not None:
        return f"revoked {_date(record.revoked_unix_s)}"
    if record.expires_unix_s is None:
        return "works"
    return f"{'ended' if now_unix_s >= record.expires_unix_s else 'works until'} {_date(record.expires_unix_s)}"


def _date(unix_s: float | None) -> str:
    return "" if unix_s is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_s))
