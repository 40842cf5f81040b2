"""``roundhouse join``: this machine becomes a node of a cluster that another one leads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.errors import AskedWrongly, CliError
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
from gateway.cli.output import bytes_text, say, show_json, show_text

if TYPE_CHECKING:
    from gateway.service.door.words import Hello, Welcome
    from gateway.service.parts import Installation
    from gateway.service.report import Event
    from models.cluster import Cluster
    from models.fleet.node_file import NodeFile
    from models.home import Home

Head = Annotated[
    str, typer.Argument(metavar="HEAD[:PORT]", help="What its `up --cluster` was given", show_default=False)
]
SecretFile = Annotated[
    Path | None,
    typer.Option(help="A copy of the head's secret; default: the one that this folder has", show_default=False),
]
Address = Annotated[
    str | None,
    typer.Option(help="Where the others reach this machine; default: where it goes out to the head", show_default=False),
]
Pool = Annotated[
    str | None, typer.Option(help="That its GPUs belong to; default: as the configuration has it", show_default=False)
]
HostMemory = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="RAM for sleeping models; default: as the configuration has it"),
]
Notice = Annotated[
    str | None,
    typer.Option(metavar="aws|gcp|URL", help="Where word of a reclaim of this machine is looked for"),
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
    """Make this machine a node of a cluster, until Ctrl-C. Its engines are the cluster's; `down` leaves it in order."""
    from gateway.cli.plan import check_python, create_home, gateway_alone
    from gateway.cli.up import refuse_second, serve

    if not gateway and (host, port, workers, config) != (None, None, None, None):
        raise AskedWrongly("--host, --port, --workers and --config are for a gateway", code="usage", cure="say --gateway")
    refuse_second(home)
    check_python()
    found = create_home(home)
    asked = _asked(found, head, secret_file, name, address, gpus, pool, host_memory, notice)
    serving = gateway_alone(found, config, host, port, workers) if gateway else None
    joining = Joining(found, *asked, serving)
    if dry_run:
        joining.show(json)
        return
    joining.write()
    if setup_only:
        show_json(joining.document()) if json else show_text(f"{joining.sentence()} Now: systemctl start roundhouse-node.target")
    elif detach:
        from gateway.cli.detached import start_detached

        words = joining.words(workers, config)
        start_detached(found, ("join", *words), joining.event, json)
    else:
        from gateway.service.run import Run

        serve(Run(joining.installation(), joining.url, joining.event(), report_to is not None), json, report_to)
