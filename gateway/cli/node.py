"""``roundhouse node``: the machines of the cluster, and taking one out of service or back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.cli.client import TIMEOUT_S, find_service
from gateway.cli.errors import AskedWrongly
from gateway.cli.options import DryRun, HomeFolder, Json
from gateway.cli.ordering import Timeout, UntilEmpty, show_reply
from gateway.cli.output import bytes_text, show_json, show_table, show_text

app = typer.Typer(
    help="List the nodes; cordon, drain or give up one, and put it back.",
    invoke_without_command=True,
    rich_markup_mode=None,
)

NodeName = Annotated[
    str, typer.Argument(metavar="NODE", help="Its name, as `roundhouse node list` shows it", show_default=False)
]
In = Annotated[str, typer.Option("--in", metavar="TIME", help="From now until it is gone, such as 30s or 2m")]


@app.callback()
def default(context: typer.Context, home: HomeFolder = None, json: Json = False) -> None:
    if context.invoked_subcommand is None:
        list_nodes(home, json)


@app.command("list")
def list_nodes(home: HomeFolder = None, json: Json = False) -> None:
    """The nodes, how they stand, and what is on them."""
    found = find_service(home).get("nodes")
    if json:
        show_json(found)
        return
    now_unix_s = time.time()
    rows = (
        (
            node["id"],
            node["address"],
            "; ".join(_states(node, now_unix_s)),
            _gpus(node),
            f"{bytes_text(node['gpu_reserved_bytes'])} of {bytes_text(node['gpu_memory_bytes'])}",
            f"{bytes_text(node['host_reserved_bytes'])} of {bytes_text(node['host_bytes'])}",
            ", ".join(node["pools"]),
            len(node["replicas"]),
        )
        for node in found["data"]
    )
    columns = ("NODE", "ADDRESS", "STATE", "GPUS", "GPU MEMORY", "RAM FOR SLEEPERS", "POOL", "REPLICAS")
    show_table(columns, rows, "No node is known yet.")


def _gpus(node: Mapping[str, Any]) -> str:
    lost = len(node["lost_gpus"])
    return f"{len(node['gpus'])}" + (f", {lost} lost" if lost else "")


def _states(node: Mapping[str, Any], now_unix_s: float) -> Iterator[str]:
    reason = f" ({node['reason']})" if node["reason"] else ""
    left_s = (node["leaving_unix_s"] or 0.0) - now_unix_s
    yield f"leaving in {max(0.0, left_s):.0f} s{reason}" if node["state"] == "leaving" else f"{node['state']}{reason}"
    if node["cordoned"]:
        yield "drained" if node["drained"] else "cordoned"


@app.command()
def cordon(node: NodeName, dry_run: DryRun = False, home: HomeFolder = None, json: Json = False) -> None:
    """Nothing new goes there, also after restarts; what is there stays."""
    _order("cordon", node, dry_run=dry_run, home=home, json=json)


@app.command()
def uncordon(node: NodeName, dry_run: DryRun = False, home: HomeFolder = None, json: Json = False) -> None:
    """Let a node take replicas again: after cordon, drain, and a reclaim that was called off."""
    _order("uncordon", node, dry_run=dry_run, home=home, json=json)


@app.command()
def drain(
    node: NodeName,
    wait: UntilEmpty = False,
    timeout: Timeout = 120,
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Empty a node: what is there leaves, substitutes elsewhere first, and nothing new comes until it is uncordoned."""
    _order("drain", node, wait=wait, timeout_s=timeout, dry_run=dry_run, home=home, json=json)


@app.command()
def reclaim(
    node: NodeName,
    within: In = "30s",
    wait: UntilEmpty = False,
    timeout: Timeout = 120,
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """A node will be taken away: what is there has left a few seconds before, whether it finds a place or not."""
    in_s = _seconds(within)
    _order("reclaim", node, wait=wait, timeout_s=timeout, in_s=in_s, dry_run=dry_run, home=home, json=json)


def _seconds(text: str) -> float:
    from models.catalog.errors import UnitError
    from models.catalog.units import parse_seconds

    try:
        in_s = parse_seconds(text)
    except UnitError as problem:
        raise AskedWrongly(f"--in: {problem.message}", code="usage", cure="give a time like 30s or 2m") from None
    if in_s <= 0:
        raise AskedWrongly("--in: it has to be later than now", code="usage", cure="give a time like 30s or 2m")
    return in_s


def _order(
    verb: str,
    node: str,
    *,
    wait: bool = False,
    timeout_s: float = TIMEOUT_S,
    in_s: float | None = None,
    dry_run: bool = False,
    home: HomeFolder = None,
    json: bool = False,
) -> None:
    query: dict[str, object] = {"dry_run": "true"} if dry_run else {}
    if wait and not dry_run:
        query |= {"wait": "true", "timeout_s": timeout_s}
    if in_s is not None:
        query["in_s"] = in_s
    reply = find_service(home).post(f"nodes/{quote(node, safe='')}/{verb}", timeout_s + TIMEOUT_S, **query)
    show_reply(reply, json, _show_plan if dry_run else None)


def _show_plan(detail: Mapping[str, Any]) -> None:
    plan = detail.get("plan", ())
    if not plan:
        show_text("Nothing would be started, stopped or moved at once.")
    for action in plan:
        whom = action["replica_id"] or action["model_id"]
        show_text(f"  {action['action']} {whom}: {action['reason']}")
