"""``roundhouse models``: the catalog and what goes on, and orders to single models."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from gateway.cli.client import TIMEOUT_S, find_service, model_path
from gateway.cli.options import HomeFolder, Json
from gateway.cli.output import age_text, bytes_text, show_json, show_table, show_text

app = typer.Typer(help="List the models; wake, sleep or stop one.", invoke_without_command=True, rich_markup_mode=None)

ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="The model's id or an alias", show_default=False)]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return once the order is taken, not when it is done.")]
Timeout = Annotated[float, typer.Option("--timeout", min=1, max=600, help="How long to wait, in seconds")]


@app.callback()
def default(context: typer.Context, home: HomeFolder = None, json: Json = False) -> None:
    if context.invoked_subcommand is None:
        list_models(home, json)


@app.command("list")
def list_models(home: HomeFolder = None, json: Json = False) -> None:
    """Every model of the catalog, and what goes on with it."""
    found = find_service(home).get("models")
    if json:
        show_json(found)
        return
    now = time.time()
    rows = (
        (
            model["model_id"],
            ", ".join(model["aliases"]),
            model["runtime"],
            model["tier"],
            len(model["replicas"]),
            model["in_flight"],
            model["held"],
            bytes_text(sum(model["footprint"].get(kind, 0) for kind in ("weights", "kv_cache", "overhead"))),
            age_text(now - model["last_request_unix_s"]) if model["last_request_unix_s"] else None,
            model["failure"]["message"] if model["failure"] else None,
        )
        for model in found["data"]
    )
    columns = (
        "MODEL",
        "ALIASES",
        "RUNTIME",
        "TIER",
        "REPLICAS",
        "IN FLIGHT",
        "HELD",
        "GPU MEMORY",
        "LAST USED",
        "FAILURE",
    )
    show_table(columns, rows, "The catalog has no models.")


@app.command()
def wake(
    model: ModelName, no_wait: NoWait = False, timeout: Timeout = 120, home: HomeFolder = None, json: Json = False
) -> None:
    """Bring a model onto a GPU."""
    _order("wake", model, no_wait, timeout, home, json)


@app.command()
def sleep(
    model: ModelName, no_wait: NoWait = False, timeout: Timeout = 120, home: HomeFolder = None, json: Json = False
) -> None:
    """Take a model off its GPU and keep its weights in RAM."""
    _order("sleep", model, no_wait, timeout, home, json)


@app.command()
def stop(
    model: ModelName, no_wait: NoWait = False, timeout: Timeout = 120, home: HomeFolder = None, json: Json = False
) -> None:
    """End a model's processes. The next request starts it again."""
    _order("stop", model, no_wait, timeout, home, json)


def _order(verb: str, model: str, no_wait: bool, timeout_s: float, home: HomeFolder, json: bool) -> None:
    wait = "false" if no_wait else "true"
    service = find_service(home)
    reply = service.post(model_path(model, verb), timeout_s + TIMEOUT_S, wait=wait, timeout_s=timeout_s)
    if json:
        show_json(reply)
        return
    show_text(reply["message"])
    for action in reply["actions"]:
        show_text(f"  {action}")
