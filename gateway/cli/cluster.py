"""``roundhouse cluster``: which cluster this machine belongs to; leading one, and belonging to none."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.client import home_of
from gateway.cli.errors import CliError
from gateway.cli.options import DryRun, HomeFolder, Json, NodeName
from gateway.cli.output import show_json, show_text

app = typer.Typer(
    help="Show which cluster this machine belongs to; have it lead one, or leave.",
    invoke_without_command=True,
    rich_markup_mode=None,
)


@app.callback()
def default(context: typer.Context, home: HomeFolder = None, json: Json = False) -> None:
    if context.invoked_subcommand is None:
        show(home, json)


def show(home: HomeFolder, json: bool) -> None:
    from gateway.cli.membership import node_name
    from models.cluster import PORTS, ClusterFileError, read

    found = home_of(home)
    try:
        cluster = read(found)
    except ClusterFileError as problem:
        raise CliError(str(problem), code="state_folder") from None
    if cluster is None:
        show_json({"role": "alone"}) if json else show_text(
            "This machine is alone: it leads no cluster, and is in none."
        )
        return
    name = node_name(found, None)
    document: dict[str, Any] = {
        "role": cluster.role,
        "node": name,
        "head": f"{cluster.head}:{cluster.port}",
        "ray_address": cluster.ray_address,
        "redis": None if cluster.own_redis else f"{cluster.head}:{cluster.redis_port}",
        "ports": [cluster.port, cluster.port + PORTS - 1],
        "secret_file": str(found.cluster_secret),
    }
    if json:
        show_json(document)
        return
    leads = "leads the cluster" if cluster.leads else f"is a node of the cluster of {cluster.head}"
    first, last = document["ports"]
    show_text(f"This machine, {name}, {leads}.")
    show_text(f"  joined at  {document['head']}")
    show_text(f"  ports      TCP {first} to {last}, and those of engines: docs/cluster.md")
    show_text(f"  secret     {found.cluster_secret}")


@app.command("secret")
def where_secret(home: HomeFolder = None, json: Json = False) -> None:
    """Where the cluster's secret is, for copying it to a machine that is to join. It is made if there is none."""
    from gateway.cli.plan import create_home
    from models import secret

    path = create_home(home).cluster_secret
    try:
        secret.make(path)
    except (OSError, secret.NoSecret) as problem:
        raise CliError(str(problem), code="no_secret", cure=f"remove {path}: a new one is made") from None
    show_json({"secret_file": str(path)}) if json else show_text(str(path))


Address = Annotated[
    str, typer.Argument(metavar="ADDRESS[:PORT]", help="At which other machines reach this one", show_default=False)
]


@app.command("lead")
def lead(
    address: Address, name: NodeName = None, home: HomeFolder = None, dry_run: DryRun = False, json: Json = False
) -> None:
    """Write down that this machine leads a cluster, for parts that systemd runs; `up --cluster` does it by itself."""
    from gateway.cli.membership import leading, settle
    from gateway.cli.plan import create_home
    from gateway.cli.up import refuse_second

    refuse_second(home)
    found = create_home(home)
    led = leading(found, address, name)
    assert led.cluster is not None, "an address was given"
    if not dry_run:
        settle(found, led)
    document = {"head": f"{led.cluster.head}:{led.cluster.port}", "node": led.name, "done": not dry_run}
    would = "would lead" if dry_run else "leads, once its parts run,"
    text = f"This machine, {led.name}, {would} a cluster at {document['head']}. Its secret: {found.cluster_secret}"
    show_json(document) if json else show_text(text)


@app.command("leave")
def leave(home: HomeFolder = None, dry_run: DryRun = False, json: Json = False) -> None:
    """Forget the cluster: this machine is alone from its next start on. End what runs first, with `down`."""
    from gateway.cli.up import refuse_second
    from gateway.service import formation
    from models import cluster

    refuse_second(home)
    found = home_of(home)
    try:
        before = cluster.read(found)
    except cluster.ClusterFileError:
        before = None
    if not dry_run:
        formation.alone(found)
    head = None if before is None else f"{before.head}:{before.port}"
    said = (
        "This machine was in no cluster."
        if before is None
        else f"This machine {'would leave' if dry_run else 'has left'} the cluster of {head}."
    )
    show_json({"left": head, "done": not dry_run}) if json else show_text(said)
