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
NOTHING: tuple[Any, ...] = (None, "", [], {}, 0)
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
    """``weight 1 -> 2``: of records the fields that differ, of new ones and those that are gone what they say."""
    before, after = act.before, act.after
    if isinstance(before, dict) and isinstance(after, dict):
        old, new = _leaves(before), _leaves(after)
        parts = [
            f"{name} {_short(old.get(name))} -> {_short(new.get(name))}"
            for name in {**old, **new}
            if old.get(name) != new.get(name)
        ]
    elif isinstance(found := after if after is not None else before, dict):
        parts = [f"{name} {_short(value)}" for name, value in _leaves(found).items() if value not in NOTHING]
    else:
        parts = [_short(found)]
    text = ", ".join(parts)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def _leaves(record: dict[str, Any], path: str = "") -> dict[str, Any]:
    """By their paths."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        found |= _leaves(value, f"{path}{name}.") if isinstance(value, dict) and value else {f"{path}{name}": value}
    return found


def _short(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(one, dict) and "amount" in one for one in value):
        return limits_shown({"limits": value})
    return value if isinstance(value, str) else json_module.dumps(value, ensure_ascii=False)
