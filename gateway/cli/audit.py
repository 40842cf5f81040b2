"""``roundhouse audit``: who did what to this installation. Straight on the store."""

from __future__ import annotations

import json as json_module
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.key_options import limits_shown, seconds
from gateway.cli.options import HomeFolder, Json
from gateway.cli.output import show_json, show_table
from gateway.cli.store_access import plain, store

if TYPE_CHECKING:
    from models.store.tenancy import AuditRecord

LONGEST_SHOWN = 160
Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="How far back: 24h, 7d; default: all", show_default=False)
]
By = Annotated[str, typer.Option("--by", metavar="PATTERN", help="A key's id, or cli:USER")]
Act = Annotated[str, typer.Option("--act", metavar="PATTERN", help="Such as key.revoke, tenant.*, node.drain")]
What = Annotated[str, typer.Option("--what", metavar="PATTERN", help="The id of what it was done to")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many")]


def audit(
    since: Since = None,
    by: By = "*",
    act: Act = "*",
    what: What = "*",
    limit: Limit = 50,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Acts of administrators, the newest first, each with what it changed."""
    from models.store.audit import read_audit

    since_s = 0.0 if since is None else time.time() - seconds(since, "--since")
    with store(home) as (client, keys):
        found = read_audit(client, keys, since_unix_s=since_s, by=by, act=act, what=what, limit=limit)
    if json:
        show_json({"object": "list", "data": [plain(one) for one in found]})
        return
    rows = (
        (
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.at_unix_s)),
            f"{one.by} ({one.address})" if one.address else one.by,
            one.act,
            one.what,
            changes(one),
        )
        for one in found
    )
    show_table(("TIME", "BY", "ACT", "WHAT", "CHANGES"), rows, "Nothing has been done.")


def changes(act: AuditRecord) -> str:
    """``weight 1 -> 2``: of records the fields that differ, else what there is."""
    before, after = act.before, act.after
    if isinstance(before, dict) and isinstance(after, dict):
        parts = [
            f"{name} {_short(before.get(name))} -> {_short(after.get(name))}"
            for name in {**before, **after}
            if before.get(name) != after.get(name)
        ]
        return ", ".join(parts)[:LONGEST_SHOWN]
    return _short(after if after is not None else before)[:LONGEST_SHOWN]


def _short(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(one, dict) and "amount" in one for one in value):
        return limits_shown({"limits": value})
    return value if isinstance(value, str) else json_module.dumps(value, ensure_ascii=False)
