"""``roundhouse decisions``: what the packer did and why."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from gateway.cli.client import AdminClient, find_service
from gateway.cli.options import HomeFolder, Json
from gateway.cli.output import say, show_json, show_json_line, show_text

LOOK_EVERY_S = 0.5
MOST_AT_ONCE = 1000


def decisions(
    model: Annotated[
        str | None, typer.Option("--model", help="Only those about this model", show_default=False)
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=MOST_AT_ONCE, help="How many, counted from the newest")
    ] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new ones; JSON comes one a line.")] = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """What was decided, with the reason. The newest comes last; in JSON, first."""
    service = find_service(home)
    found = service.get("decisions", limit=limit, model=model)
    if not follow and json:
        show_json(found)
        return
    if not found["data"]:
        say("Nothing has been decided yet.")
    _show(reversed(found["data"]), json)
    if follow:
        _follow(service, model, found["data"][0]["id"] if found["data"] else "", json)


def _follow(service: AdminClient, model: str | None, last: str, json: bool) -> None:
    """Until the command is interrupted, or the service ends."""
    while True:
        time.sleep(LOOK_EVERY_S)
        new = newer(service.get("decisions", limit=MOST_AT_ONCE, model=model)["data"], last)
        _show(new, json)
        last = new[-1]["id"] if new else last


def newer(newest_first: list[dict[str, Any]], last: str) -> list[dict[str, Any]]:
    """Those after the one with the id ``last``, oldest first."""
    return [decision for decision in reversed(newest_first) if _order(decision["id"]) > _order(last)]


def _order(stream_id: str) -> tuple[int, ...]:
    return tuple(int(number) for number in stream_id.split("-")) if stream_id else ()


def _show(decided: Iterable[dict[str, Any]], json: bool) -> None:
    for decision in decided:
        if json:
            show_json_line(decision)
        else:
            show_text(line(decision))


def line(decision: dict[str, Any]) -> str:
    """``12:04:07 sleep  tiny-gemma on node/0 for tiny-qwen3: least recently used``"""
    at = datetime.datetime.fromtimestamp(decision["at_unix_s"]).astimezone().strftime("%H:%M:%S")
    where = f" on {decision['gpu']}" if decision["gpu"] else ""
    whom = f" for {decision['evicted_for']}" if decision["evicted_for"] else ""
    why = f": {decision['reason']}" if decision["reason"] else ""
    return f"{at} {decision['action']:<7} {decision['model_id'] or '-'}{where}{whom}{why}"
