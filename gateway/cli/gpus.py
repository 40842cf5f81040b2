"""``roundhouse gpus``: what is reserved on each, and emptying one for work on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.cli.client import TIMEOUT_S, find_service
from gateway.cli.options import DryRun, HomeFolder, Json
from gateway.cli.ordering import Timeout, UntilEmpty, show_reply
from gateway.cli.output import bytes_text, say, show_json, show_table, show_text

app = typer.Typer(help="List the GPUs; empty one, and put it back.", invoke_without_command=True, rich_markup_mode=None)

UNACCOUNTED_SHARE = 0.02  # of a real GPU's memory; the driver itself takes a little

GpuName = Annotated[
    str, typer.Argument(metavar="GPU", help="Its id, as `roundhouse gpus` shows it", show_default=False)
]


@app.callback()
def default(context: typer.Context, home: HomeFolder = None, json: Json = False) -> None:
    if context.invoked_subcommand is None:
        list_gpus(home, json)


@app.command("list")
def list_gpus(home: HomeFolder = None, json: Json = False) -> None:
    """The GPUs and what is reserved on each."""
    found = find_service(home).get("gpus")
    if json:
        show_json(found)
        return
    rows = (
        (
            gpu["id"],
            "simulated" if gpu["simulated"] else gpu["name"],
            bytes_text(gpu["memory_bytes"]),
            bytes_text(gpu["reserved_bytes"]),
            bytes_text(gpu["free_bytes"]),
            bytes_text(_in_use(gpu)),
            _state(gpu),
            " ".join(gpu["replicas"]),
        )
        for gpu in found["data"]
    )
    columns = ("GPU", "KIND", "MEMORY", "RESERVED", "FREE", "IN USE", "STATE", "REPLICAS")
    show_table(columns, rows, "No GPU is known yet.")
    if found["simulated"]:
        say("These GPUs are simulated: the models are real and run on the CPU.")


def _in_use(gpu: Mapping[str, Any]) -> int:
    """By its driver; of a simulated one, what the engines on it say."""
    used: int = gpu["measured_bytes"] if gpu["used_bytes"] is None else gpu["used_bytes"]
    return used


def _state(gpu: Mapping[str, Any]) -> str:
    more_bytes = (gpu["used_bytes"] or 0) - gpu["reserved_bytes"]
    if gpu["lost"]:
        return f"lost: {gpu['lost']}"
    states = ["drained"] * gpu["cordoned"] + ([gpu["closed"]] if gpu["closed"] else [])
    states += [f"{bytes_text(kept_bytes)} kept for {name}" for name, kept_bytes in gpu["kept"].items()]
    if more_bytes > UNACCOUNTED_SHARE * gpu["memory_bytes"]:
        states.append(f"{bytes_text(more_bytes)} in use that nobody has reserved")
    return "; ".join(states)


@app.command()
def drain(
    gpu: GpuName,
    wait: UntilEmpty = False,
    timeout: Timeout = 120,
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Empty a GPU: what is there leaves, and nothing new comes, also after restarts, until it is undrained."""
    service = find_service(home)
    if dry_run:
        from gateway.cli.planning import show_actions

        plan = service.get("plan", drain=gpu)
        if json:
            show_json(plan)
        else:
            show_text(f"If {gpu} were drained now:")
            show_actions(plan["actions"])
        return
    _order("drain", gpu, wait, timeout, home, json)


@app.command()
def undrain(gpu: GpuName, dry_run: DryRun = False, home: HomeFolder = None, json: Json = False) -> None:
    """Let a drained GPU take replicas again."""
    if not dry_run:
        _order("undrain", gpu, False, TIMEOUT_S, home, json)
        return
    found = next((each for each in find_service(home).get("gpus")["data"] if each["id"] == gpu), None)
    drained = found is not None and found["cordoned"]
    if json:
        show_json({"gpu": gpu, "drained": drained, "would_change": drained})
    else:
        show_text(f"{gpu} would take replicas again" if drained else f"{gpu} is not drained: nothing would change")


def _order(verb: str, gpu: str, wait: bool, timeout_s: float, home: HomeFolder, json: bool) -> None:
    service = find_service(home)
    waits = "true" if wait else "false"
    reply = service.post(f"gpus/{quote(gpu)}/{verb}", timeout_s + TIMEOUT_S, wait=waits, timeout_s=timeout_s)
    show_reply(reply, json)
