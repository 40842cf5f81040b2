"""``roundhouse models``: the catalog and what goes on, and orders to single models."""

from __future__ import annotations

import time
from typing import Annotated
from urllib.parse import quote

import typer

from gateway.cli.client import TIMEOUT_S, find_service, model_path
from gateway.cli.options import DryRun, HomeFolder, Json
from gateway.cli.ordering import Timeout, show_reply
from gateway.cli.output import say, show_json, show_table, show_text

app = typer.Typer(
    help="List the models; show, wake, sleep or stop one.", invoke_without_command=True, rich_markup_mode=None
)

ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="The model's id or an alias", show_default=False)]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return once the order is taken, not when it is done.")]


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
    from gateway.cli.model_text import COLUMNS, row

    now_unix_s = time.time()
    show_table(COLUMNS, (row(model, now_unix_s) for model in found["data"]), "The catalog has no models.")
    if found["simulated"]:
        say("The GPUs are simulated: their memory is counted, the models run on the CPU.")


@app.command()
def show(model: ModelName, home: HomeFolder = None, json: Json = False) -> None:
    """One model: where it is, what its replicas hold by kind, what it costs to start, wake and put to sleep."""
    found = find_service(home).get(f"models/{quote(model)}")
    if json:
        show_json(found)
        return
    from gateway.cli.model_text import MEMORY_COLUMNS, detail_lines, memory_rows
    from gateway.cli.replicas import show_replicas

    for line in detail_lines(found):
        show_text(line)
    show_table(MEMORY_COLUMNS, memory_rows(found), "")
    show_replicas(found["replica_records"])


@app.command()
def wake(
    model: ModelName,
    no_wait: NoWait = False,
    timeout: Timeout = 120,
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Bring a model onto a GPU."""
    if not dry_run:
        _order("wake", model, no_wait, timeout, home, json)
        return
    from gateway.cli.planning import show_actions

    plan = find_service(home).get("plan", wake=model)
    if json:
        show_json(plan)
        return
    show_text(f"If {model} were woken now:")
    show_actions(plan["actions"])


@app.command()
def sleep(
    model: ModelName,
    no_wait: NoWait = False,
    timeout: Timeout = 120,
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Take a model off its GPU and keep its weights in RAM."""
    _order("sleep", model, no_wait, timeout, home, json, dry_run)


@app.command()
def stop(
    model: ModelName,
    no_wait: NoWait = False,
    timeout: Timeout = 120,
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """End a model's processes. The next request starts it again."""
    _order("stop", model, no_wait, timeout, home, json, dry_run)


def _order(
    verb: str, model: str, no_wait: bool, timeout_s: float, home: HomeFolder, json: bool, dry_run: bool = False
) -> None:
    wait = "false" if no_wait or dry_run else "true"
    tries = "true" if dry_run else "false"
    service = find_service(home)
    reply = service.post(model_path(model, verb), timeout_s + TIMEOUT_S, wait=wait, timeout_s=timeout_s, dry_run=tries)
    show_reply(reply, json)
