"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, errors included.")]
HomeFolder = Annotated[
    Path | None,
    typer.Option("--home", help="State folder; default: ROUNDHOUSE_HOME, else .roundhouse", show_default=False),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Configuration; default: ./roundhouse.yaml, else the demo's in the state folder",
        show_default=False,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Gpus = Annotated[
    str | None,
    typer.Option(
        "--gpus",
        help="Simulated GPUs instead of the configured ones, such as 2x1GiB; 2x1GiB@20GiB/s gives them a bus",
        show_default=False,
    ),
]
Workers = Annotated[
    str | None,
    typer.Option(
        "--workers",
        metavar="N|auto",
        help="Processes that answer requests; default: as configured, else one where GPUs are simulated, one per core",
        show_default=False,
    ),
]
Host = Annotated[
    str | None, typer.Option("--host", help="Address to listen on; default: as configured", show_default=False)
]
Port = Annotated[
    int | None,
    typer.Option("--port", min=0, max=65535, help="0 takes a free one; default: as configured", show_default=False),
]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Return once it serves; end it with `down`.")]
ReportTo = Annotated[int | None, typer.Option("--report-to", hidden=True)]
NodeName = Annotated[
    str | None,
    typer.Option(
        "--name", help="Of this machine in its cluster; default: as before, else its host name", show_default=False
    ),
]
