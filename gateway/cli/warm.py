"""``roundhouse warm``: keep replicas of a model ready for a while although nobody calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from gateway.cli.client import TIMEOUT_S, find_service, model_path
from gateway.cli.errors import AskedWrongly
from gateway.cli.options import DryRun, HomeFolder, Json
from gateway.cli.ordering import Timeout, show_reply
from gateway.cli.output import show_json, show_table

ModelName = Annotated[
    str | None,
    typer.Argument(metavar="MODEL", help="Its id or an alias; without it: what is kept warm", show_default=False),
]
Replicas = Annotated[int, typer.Option("--replicas", min=1, max=10_000, help="How many are kept")]
Until = Annotated[
    str | None,
    typer.Option(
        "--until",
        metavar="WHEN",
        help="18:00, 2h or 2026-11-22T18:00Z; on this machine's clock. Default: until --off",
        show_default=False,
    ),
]
Off = Annotated[bool, typer.Option("--off", help="Not any longer.")]
Wait = Annotated[bool, typer.Option("--wait", help="Return when all are ready.")]


def warm(
    model: ModelName = None,
    replicas: Replicas = 1,
    until: Until = None,
    off: Off = False,
    wait: Wait = False,
    timeout: Timeout = 120,
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Keep a model warm: so many replicas stay ready until then, also after restarts. Without a model: list them."""
    if model is None:
        if off or until is not None or dry_run or wait:
            raise AskedWrongly("no model is named", code="usage", cure="roundhouse warm MODEL --until 18:00")
        return _list(home, json)
    if off and (until is not None or wait):
        raise AskedWrongly(
            "--off takes neither --until nor --wait", code="usage", cure=f"roundhouse warm {model} --off"
        )
    query: dict[str, object] = {"replicas": 0 if off else replicas}
    if until is not None:
        query["until_unix_s"] = _until(until)
    if wait:
        query |= {"wait": "true", "timeout_s": timeout}
    if dry_run:
        query["dry_run"] = "true"
    service = find_service(home)
    reply = service.post(model_path(model, "warm"), (timeout if wait else 0) + TIMEOUT_S, **query)
    show_reply(reply, json, _show_plan if dry_run and not off else None)


def _show_plan(detail: Mapping[str, Any]) -> None:
    from gateway.cli.planning import show_actions

    show_actions(detail.get("actions", ()))


def _until(text: str) -> float:
    from datetime import UTC, datetime

    from gateway.cli.times import parse_until

    # Without its zone: tomorrow's 18:00 may have another offset than now.
    return parse_until(text, datetime.now(UTC).astimezone().replace(tzinfo=None))


def _list(home: HomeFolder, json: bool) -> None:
    found = find_service(home).get("warm")
    if json:
        show_json(found)
        return
    columns = ("MODEL", "REPLICAS", "READY", "STATE", "BY", "FROM", "UNTIL", "REASON")
    show_table(columns, map(_row, found["data"]), "Nothing is kept warm; roundhouse warm MODEL --until 18:00 does it.")


def _row(record: Mapping[str, Any]) -> tuple[object, ...]:
    asked, kept = record["asked"], record["replicas"]
    return (
        record["model_id"],
        kept if asked == kept else f"{kept} (max_replicas, {asked} asked for)",
        record["ready"],
        record["state"],
        record["by"],
        _moment(record["from_unix_s"]),
        _moment(record["until_unix_s"]),
        record["reason"],
    )


def _moment(at_unix_s: float | None) -> str | None:
    """On this machine's clock."""
    from datetime import UTC, datetime

    return None if at_unix_s is None else f"{datetime.fromtimestamp(at_unix_s, UTC).astimezone():%a %Y-%m-%d %H:%M}"
