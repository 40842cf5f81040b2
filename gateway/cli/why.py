"""``roundhouse why``: where a model, a replica or a GPU stands, and why, on one screen."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from gateway.cli.client import find_service
from gateway.cli.decision_text import line, timing
from gateway.cli.errors import AskedWrongly
from gateway.cli.options import HomeFolder, Json
from gateway.cli.output import age_text, bytes_text, show_json, show_text


def why(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="A model, by its id or an alias", show_default=False)
    ] = None,
    replica: Annotated[
        str | None, typer.Option("--replica", help="A replica instead, also one that is gone", show_default=False)
    ] = None,
    gpu: Annotated[str | None, typer.Option("--gpu", help="A GPU instead", show_default=False)] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="How many of the last decisions")] = 8,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Where it is and why, what a request would meet now, what was decided last, and what would help."""
    if sum(name is not None for name in (model, replica, gpu)) != 1:
        raise AskedWrongly(
            "name a model, a replica or a GPU",
            code="usage",
            cure="roundhouse why MODEL, why --replica REPLICA, or why --gpu GPU",
        )
    found = find_service(home).get("why", model=model, replica=replica, gpu=gpu, limit=limit)
    if json:
        show_json(found)
        return
    show_text(found["summary"])
    for each in found["replicas"]:
        _show_replica(each, found["at_unix_s"])
    if found["subject"] == "model":
        _show_call(found)
    if found["decisions"]:
        show_text("\nDecided last:")
        for decision in found["decisions"]:
            show_text(f"  {line(decision)}")
    if found["helps"]:
        show_text("\nWhat would help:")
        for text in found["helps"]:
            show_text(f"  - {text}")


def _show_replica(replica: Mapping[str, Any], now_unix_s: float) -> None:
    since = age_text(max(0.0, now_unix_s - replica["since_unix_s"]))
    holds = bytes_text(replica["gpu_bytes"])
    show_text(f"  {replica['replica_id']}: {replica['state']} on {replica['gpu']} for {since}, holds {holds}")
    because = replica["because"]
    if because is not None:
        at = datetime.datetime.fromtimestamp(because["at_unix_s"]).astimezone().strftime("%H:%M:%S")
        times = f" ({told})" if (told := timing(because)) else ""
        show_text(f"    {because['action']} at {at}: {because['reason']}{times}")
    elif replica["reason"]:
        show_text(f"    {replica['reason']}")
    if replica["keeps"]:
        show_text(f"    {replica['keeps']}")


def _show_call(found: Mapping[str, Any]) -> None:
    answer = found["if_called"]
    if answer is None:
        show_text(f"\nA request now: nobody can say. {found['unknown']}")
        return
    show_text(f"\nA request now: {answer['summary']}")
    for one in answer["candidates"]:
        verdict = f"rejected: {one['rejected']}" if one["rejected"] else f"score {one['score']:.4g}"
        show_text(f"  {one['gpu']}  {bytes_text(one['free_bytes'])} free  {verdict}")
