"""``roundhouse decisions``: what the packer did, why, at what price, and how it came out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli import decision_export
from gateway.cli.client import AdminClient, find_service
from gateway.cli.decision_text import line, more
from gateway.cli.errors import AskedWrongly, CliError, Unreachable
from gateway.cli.options import HomeFolder, Json
from gateway.cli.output import say, show_json, show_json_line, show_text

MOST_AT_ONCE = 1000
WAIT_S = 20.0
TRY_AGAIN_S = 1.0
PATIENCE_S = 60.0  # a service that is down for so long while it is followed is not coming back


def decisions(
    model: Annotated[
        str | None,
        typer.Option("--model", help="Only those about this model, or made for its sake", show_default=False),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=MOST_AT_ONCE, help="How many, counted from the newest")
    ] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new ones; JSON comes one a line.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show prices, candidates and what else would have been possible.")
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option("--export", help="Write them to this file, one JSON object a line; .gz packs it"),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="With --export: not older than this, such as 1h", show_default=False)
    ] = None,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """What was decided, with the reason, the estimate and what it took. The newest comes last; in JSON, first."""
    if since is not None and export is None:
        raise AskedWrongly(
            "--since goes with --export", code="usage", cure="roundhouse decisions --export F --since 1h"
        )
    if export is not None and follow:
        raise AskedWrongly(
            "--export writes what there is; it does not follow",
            code="usage",
            cure="roundhouse decisions --follow --json > FILE, or decisions.export in the configuration",
        )
    service = find_service(home)
    if export is not None:
        decision_export.run(service, export, since, model, json)
        return
    found = service.get("decisions", limit=limit, model=model)
    if not follow and json:
        show_json(found)
        return
    if not found["data"]:
        say(f"No decision about {model} is on record." if model else "Nothing has been decided yet.")
    _show(reversed(found["data"]), json, explain)
    if follow:
        _show(_new_ones(service, model, found["next_after"]), json, explain)


def _new_ones(service: AdminClient, model: str | None, after: str) -> Iterator[dict[str, Any]]:
    """Until the command is interrupted. A service that does not answer for a while is waited for; none is missed."""
    silent_since_s: float | None = None
    while True:
        try:
            page = service.get("decisions", after=after, wait_s=WAIT_S, limit=MOST_AT_ONCE, model=model)
        except CliError as problem:
            if not _passing(problem):
                raise
            now_s = time.monotonic()
            if silent_since_s is None:
                silent_since_s = now_s
                say(f"{problem.message.removesuffix('.').removesuffix('; try again')}; waiting for it")
            if now_s - silent_since_s >= PATIENCE_S:
                raise
            time.sleep(TRY_AGAIN_S)
            continue
        silent_since_s = None
        yield from page["data"]
        after = page["next_after"]


def _passing(problem: CliError) -> bool:
    """It may be over soon: nothing answers, or what does cannot say now."""
    return isinstance(problem, Unreachable) or int(problem.details.get("status", 0)) >= 500


def _show(decided: Iterable[dict[str, Any]], json: bool, explain: bool) -> None:
    for decision in decided:
        if json:
            show_json_line(decision)
            continue
        show_text(line(decision))
        for also in more(decision) if explain else ():
            show_text(f"         {also}")
