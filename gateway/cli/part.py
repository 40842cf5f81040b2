"""``roundhouse part NAME``: one part in the foreground, for a process manager such as systemd."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.errors import AskedWrongly, CliError
from gateway.cli.options import ConfigFile, DryRun, Gpus, HomeFolder, Host, Json, Port, Workers
from gateway.cli.output import show_json, show_text

if TYPE_CHECKING:
    from gateway.service.parts import Installation

CONFIGURED = ("control", "gateway", "door")  # the others start without a configuration, and with a wrong one

PartName = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="redis, launcher, ray, control, gateway, meter; door or member", show_default=False
    ),
]


def part(
    name: PartName,
    config: ConfigFile = None,
    host: Host = None,
    port: Port = None,
    gpus: Gpus = None,
    workers: Workers = None,
    home: HomeFolder = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Become one part of the service, as `up` would run it. For systemd and the like."""
    import msgspec

    from gateway.service.parts import part as find_part
    from gateway.service.parts import part_names
    from models.secret import NoSecret

    if name not in part_names():
        raise AskedWrongly(f"there is no part {name!r}", code="usage", cure=f"choose from {', '.join(part_names())}")
    installation = _installation(name, config, host, port, gpus, home, workers)
    try:
        spec = find_part(installation, name)
    except NoSecret as problem:
        raise CliError(str(problem), code="no_secret") from None
    except msgspec.MsgspecError as problem:
        said = f"{installation.home.node_file} cannot be read: {problem}"
        raise CliError(said, code="state_folder", cure="remove it, then lead the cluster or join it again") from None
    if dry_run:
        added = {key: value for key, value in spec.env.items() if os.environ.get(key) != value}
        if json:
            show_json({"name": name, "command": spec.command, "environment": added})
        else:
            show_text(" ".join(spec.command))
        return
    try:
        spec.prepare()
        os.chdir(installation.home.logs)
        os.execve(spec.command[0], spec.command, dict(spec.env))
    except OSError as problem:
        raise CliError(f"{name} cannot be started: {problem}", code="start_failed") from None


def _installation(
    name: str,
    config: Path | None,
    host: str | None,
    port: int | None,
    gpus: str | None,
    home: Path | None,
    workers: str | None,
) -> Installation:
    from gateway.cli.plan import check_python, create_home, plan, uses_own_redis
    from gateway.service import ray_head
    from gateway.service.parts import Installation
    from models import cluster

    found = create_home(home)
    try:
        joined = cluster.read(found)
    except cluster.ClusterFileError as problem:
        raise CliError(str(problem), code="state_folder") from None
    if name in CONFIGURED:
        # Which GPUs there are is the controller's business; the gateway runs where none can be seen.
        return plan(
            config=config,
            host=host,
            port=port,
            gpus=gpus,
            home=home,
            workers=workers,
            look_for_gpus=name == "control",
            cluster=joined,
        ).installation
    check_python()
    address = ray_head.outside_address()
    own_redis = uses_own_redis(found)
    return Installation(home=found, config=found.config, own_redis=own_redis, ray_address=address, cluster=joined)
