"""``roundhouse join``: this machine becomes a node of a cluster that another one leads."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.errors import AskedWrongly
from gateway.cli.options import (
    ConfigFile,
    Detach,
    DryRun,
    Gpus,
    HomeFolder,
    Host,
    Json,
    NodeName,
    Port,
    ReportTo,
    Workers,
)
from gateway.cli.output import show_json, show_text

Head = Annotated[
    str, typer.Argument(metavar="HEAD[:PORT]", help="What its `up --cluster` was given", show_default=False)
]
SecretFile = Annotated[
    Path | None,
    typer.Option(help="A copy of the head's secret; default: the one that this folder has", show_default=False),
]
Address = Annotated[
    str | None,
    typer.Option(help="At which the others reach this machine; default: its own on the way to the head"),
]
Pool = Annotated[str | None, typer.Option(help="That its GPUs belong to; default: as configured")]
HostMemory = Annotated[str | None, typer.Option(metavar="SIZE", help="RAM for sleeping models; default: as configured")]
Notice = Annotated[
    str | None, typer.Option(metavar="aws|gcp|URL", help="Where word of a reclaim of this machine is looked for")
]
WithGateway = Annotated[bool, typer.Option("--gateway", help="Answer requests on this machine, too.")]
SetupOnly = Annotated[bool, typer.Option("--setup-only", help="Only write down what systemd's units then run by.")]


def join(
    head: Head,
    secret_file: SecretFile = None,
    name: NodeName = None,
    address: Address = None,
    gpus: Gpus = None,
    pool: Pool = None,
    host_memory: HostMemory = None,
    notice: Notice = None,
    gateway: WithGateway = False,
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    config: ConfigFile = None,
    home: HomeFolder = None,
    setup_only: SetupOnly = False,
    detach: Detach = False,
    dry_run: DryRun = False,
    json: Json = False,
    report_to: ReportTo = None,
) -> None:
    """Make this machine a node of a cluster, until Ctrl-C. What runs on it is the cluster's; `down` leaves in order."""
    from gateway.cli.joining import NodeOptions, plan_join
    from gateway.cli.plan import plan_gateway
    from gateway.cli.up import refuse_second, serve

    if not gateway and (host, port, workers, config) != (None, None, None, None):
        raise AskedWrongly(
            "--host, --port, --workers and --config are a gateway's", code="usage", cure="say --gateway, too"
        )
    refuse_second(home)
    options = NodeOptions(name, address, gpus, pool, host_memory, notice)
    serve_here = partial(plan_gateway, config, host, port, workers) if gateway else None
    joining = plan_join(home, head, secret_file, options, serve_here)
    if dry_run:
        show_json(joining.document()) if json else show_text(joining.would())
        return
    joining.write()
    if setup_only:
        show_json(joining.document()) if json else show_text(joining.text())
    elif detach:
        from gateway.cli.detached import start_detached

        words = [*joining.words(), *(["--config", str(config.absolute())] if config else [])]
        start_detached(joining.home, ("join", *words), joining.event, json)
    else:
        from gateway.service.run import Run

        detached = report_to is not None
        serve(Run(joining.installation, joining.url, joining.event(), detached), json, report_to)
