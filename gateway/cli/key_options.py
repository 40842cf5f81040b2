"""Options of commands that set up keys, tenants and projects, and what records make of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.errors import AskedWrongly

if TYPE_CHECKING:
    from models.store.records import KeyRecord
    from models.store.tenancy import LimitRule

ALL = "all"
NEVER = "never"

Scope = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        help="inference (the default), admin:read, admin:write, or admin for both; may be repeated",
        show_default=False,
    ),
]
Tenant = Annotated[str | None, typer.Option("--tenant", help="Whose it is; default: default", show_default=False)]
Project = Annotated[str | None, typer.Option("--project", help="Of the tenant's; default: default", show_default=False)]
Model = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="PATTERN",
        help="May call these models only, such as org/*; repeat for more; all: any",
        show_default=False,
    ),
]
Endpoint = Annotated[
    list[str] | None,
    typer.Option(
        "--endpoint",
        metavar="PATTERN",
        help="May call these only, by name or path: chat.completions, /v1/audio/*; all: any",
        show_default=False,
    ),
]
Limit = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="LIMIT",
        help="requests=100/1m, money=25/month, 'tokens=1M/day:soft@80% for org/*', concurrent=8; may be repeated",
        show_default=False,
    ),
]
NoLimit = Annotated[
    list[str] | None,
    typer.Option("--no-limit", metavar="NAME", help="Drop this limit: requests/1m; all: each", show_default=False),
]
Expires = Annotated[
    str | None,
    typer.Option(
        "--expires", metavar="WHEN", help="30d, 2026-12-31 or never; on this machine's clock", show_default=False
    ),
]
Weight = Annotated[
    float | None, typer.Option("--weight", help="Share of turns beside others where requests wait", show_default=False)
]
Priority = Annotated[
    int | None, typer.Option("--priority", help="The highest that may be asked for", show_default=False)
]
KeyName = Annotated[str | None, typer.Option("--name", help="Another name", show_default=False)]


def key_fields(
    record: KeyRecord | None,
    *,
    tenant: str | None,
    project: str | None,
    models: list[str] | None,
    endpoints: list[str] | None,
    limits: list[str] | None,
    no_limits: list[str] | None,
    expires: str | None,
    weight: float | None,
    priority: int | None,
) -> dict[str, Any]:
    """Those that were given. ``record``: as it is now. Raises AskedWrongly."""
    fields = given(tenant=tenant, project=project, weight=weight, priority=priority)
    if models is not None:
        fields["models"] = patterns(models)
    if endpoints is not None:
        fields["endpoints"] = endpoint_patterns(endpoints)
    if limits is not None or no_limits is not None:
        fields["limits"] = with_limits(record.limits if record is not None else (), limits, no_limits)
    if expires is not None:
        fields["expires_unix_s"] = expires_unix_s(expires)
    return fields


def given(**options: object) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def nothing_named(command: str) -> AskedWrongly:
    return AskedWrongly("nothing to change is named", code="usage", cure=f"see: roundhouse {command} --help")


def endpoint_patterns(found: Iterable[str]) -> tuple[str, ...]:
    """Raises AskedWrongly for one that fits no endpoint, and would let its key call nothing."""
    from fnmatch import fnmatchcase

    from gateway.endpoints import ENDPOINTS

    kept = patterns(found)
    for pattern in kept:
        if not any(fnmatchcase(name, pattern) for one in ENDPOINTS for name in (one.name, one.path)):
            raise AskedWrongly(
                f"--endpoint: {pattern[:80]!r} fits no endpoint",
                code="usage",
                cure=f"choose from {', '.join(one.name for one in ENDPOINTS)}, paths such as /v1/audio/*, or all",
            )
    return kept


def patterns(found: Iterable[str]) -> tuple[str, ...]:
    return () if ALL in (kept := tuple(found)) else kept


def with_limits(
    rules: tuple[LimitRule, ...], added: Iterable[str] | None, dropped: Iterable[str] | None
) -> tuple[LimitRule, ...]:
    """One of the same name is replaced. Raises AskedWrongly."""
    from models.catalog.errors import WrongValue
    from models.store.limit_text import parse_limit

    gone = set(dropped or ())
    kept = {rule.name: rule for rule in rules if ALL not in gone and not gone & set(names_of(rule))}
    unknown = gone - {ALL} - {name for rule in rules for name in names_of(rule)}
    if unknown:
        known = ", ".join(names_of(rule)[0] for rule in rules) or "there is none"
        raise AskedWrongly(f"--no-limit: there is no limit {min(unknown)!r}", code="usage", cure=f"known: {known}")
    for text in added or ():
        try:
            rule = parse_limit(text)
        except WrongValue as wrong:
            raise AskedWrongly(f"--limit: {wrong.message}", code="usage", cure=wrong.cure) from None
        kept.pop(rule.name, None)
        kept[rule.name] = rule
    return tuple(kept.values())


def names_of(rule: LimitRule) -> tuple[str, ...]:
    """By which it can be dropped, the shortest that is its own first."""
    short = f"{rule.what}/{rule.per}" if rule.per else str(rule.what)
    full = f"{short} for {rule.models}"
    return (short, rule.name, full) if rule.models == "*" else (full, rule.name)


def seconds(text: str, option: str) -> float:
    """Raises AskedWrongly."""
    from models.catalog.errors import UnitError
    from models.catalog.units import parse_seconds

    stripped = text.strip()
    try:
        if stripped.endswith("d"):
            return parse_seconds(f"{stripped[:-1]}h") * 24
        return parse_seconds(stripped)
    except UnitError as wrong:
        raise AskedWrongly(f"{option}: {wrong.message}", code="usage", cure="write 24h, 30d or 0s") from None


def expires_unix_s(text: str, now: datetime | None = None) -> float | None:
    """None: never. A date alone ends with that day. Raises AskedWrongly."""
    from datetime import UTC, timedelta

    now = datetime.now(UTC).astimezone() if now is None else now
    stripped = text.strip()
    if stripped == NEVER:
        return None
    try:
        at = datetime.fromisoformat(stripped)
    except ValueError:
        return now.timestamp() + _positive(seconds(stripped, "--expires"))
    if len(stripped) == len("2026-12-31"):
        at += timedelta(days=1)
    at_s = (at if at.tzinfo is not None else at.replace(tzinfo=now.tzinfo)).timestamp()
    if at_s <= now.timestamp():
        raise AskedWrongly(f"--expires: {stripped[:60]!r} is over", code="usage", cure="name a time that is to come")
    return at_s


def _positive(duration_s: float) -> float:
    if duration_s <= 0:
        raise AskedWrongly("--expires: that is now", code="usage", cure="write 30d, 2026-12-31 or never")
    return duration_s


def limits_shown(record: Mapping[str, Any]) -> str:
    """Of a record as JSON has it."""
    import msgspec

    from models.store.limit_text import limit_text
    from models.store.tenancy import LimitRule

    return ", ".join(
        limit_text(rule) for rule in msgspec.convert(record["limits"], tuple[LimitRule, ...], strict=False)
    )
