"""``roundhouse defrag``: move replicas together so that whole GPUs become free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from gateway.cli.client import TIMEOUT_S, AdminClient, find_service
from gateway.cli.errors import AskedWrongly
from gateway.cli.options import DryRun, HomeFolder, Json
from gateway.cli.output import bytes_text, say, show_json, show_table, show_text

MOST_MOVES = 1000


def defrag(
    moves: Annotated[
        int | None,
        typer.Option(
            "--moves", min=1, max=MOST_MOVES, help="At most so many; default: all that pay", show_default=False
        ),
    ] = None,
    dry_run: DryRun = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it is over.")] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=1, max=3600, help="How long to wait, in seconds")] = 600,
    status: Annotated[bool, typer.Option("--status", help="Show how far the last one is, or came.")] = False,
    abort: Annotated[
        bool, typer.Option("--abort", help="Begin nothing more; what does not serve yet goes back to where it was.")
    ] = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Move replicas together so that GPUs become free. The new one serves before the old one leaves."""
    if ((status or abort) and (moves is not None or wait)) or (status and (abort or dry_run)):
        raise AskedWrongly(
            "--status and --abort stand alone",
            code="usage",
            cure="roundhouse defrag --status; roundhouse defrag --abort",
        )
    service = find_service(home)
    if status:
        return _status(service, json)
    flag = "true" if dry_run else "false"
    if abort:
        reply = service.post("defrag/abort", TIMEOUT_S, dry_run=flag)
    else:
        query: dict[str, object] = {"dry_run": flag, "wait": "true" if wait else "false", "timeout_s": timeout}
        query |= {} if moves is None else {"moves": moves}
        reply = service.post("defrag", timeout + TIMEOUT_S, **query)
    if json:
        show_json(reply)
        return
    show_text(("If it were done now: " if dry_run else "") + reply["message"])
    detail = reply["detail"]
    if detail.get("moves") and not (wait and not dry_run):
        _show_plan(detail)
    if dry_run or not detail.get("moves"):
        _show_stays(detail)
    if detail.get("run") and not dry_run:
        _show_run(detail["run"])


def _status(service: AdminClient, json: bool) -> None:
    found = service.get("defrag")
    if json:
        show_json(found)
    elif found["run"] is None:
        say("Nobody has defragmented anything yet.")
    else:
        run = found["run"]
        show_text(f"{run['state']}, at most {run['wanted']} moves, {run['at_once']} at a time")
        _show_run(run)


def _show_plan(detail: Mapping[str, Any]) -> None:
    rows = (
        (
            move["replica_id"],
            move["source"],
            move["target"],
            bytes_text(move["moved_bytes"]),
            f"{move['start_s']:.2f} s",
            f"{move['gain_gpus']:.2f} GPU",
            f"{move['cost_gpu_s']:.1f} GPU-s",
            ", ".join(move["after"]),
        )
        for move in detail["moves"]
    )
    show_table(("REPLICA", "FROM", "TO", "MOVED", "STARTS IN", "GAINS", "COSTS", "AFTER"), rows, "")
    before, after = detail["before"], detail["after"]
    show_text(
        f"empty GPUs: {before['empty_gpus']} now, {after['empty_gpus']} then, of {before['gpus']}; most free on one: "
        f"{bytes_text(before['largest_free_bytes'])} now, {bytes_text(after['largest_free_bytes'])} then"
    )
    show_text(f"{detail['at_once']} at a time; no model is served by fewer replicas meanwhile")


def _show_stays(detail: Mapping[str, Any]) -> None:
    for stay in detail.get("stays", ()):
        show_text(f"  {stay['replica_id']} stays: {stay['why']}")
    if detail.get("stays_left_out"):
        show_text(f"  and {detail['stays_left_out']} more")


def _show_run(run: Mapping[str, Any]) -> None:
    rows = (
        (
            move["replica_id"],
            move["substitute"],
            move["source"],
            move["target"],
            move["state"],
            None if move["took_s"] is None else f"{move['took_s']:.2f} s",
            move["reason"],
        )
        for move in run["moves"]
    )
    show_table(("REPLICA", "NOW", "FROM", "TO", "STATE", "TOOK", "WHY"), rows, "No move has begun yet.")
