"""``roundhouse doctor``: looks at everything the service needs, and says the cure for whatever is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import typer

from gateway.cli.client import home_of
from gateway.cli.options import HomeFolder, Json, Port
from gateway.cli.output import show_json, show_text

if TYPE_CHECKING:
    from gateway.cli.checks import Check
    from models.home import Home

MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


def doctor(home: HomeFolder = None, port: Port = None, json: Json = False) -> None:
    """Check this machine and this installation. Exit status 1 when something keeps the service from running."""
    import msgspec

    found = [check() for check in _checks(home, port)]
    well = not any(check.verdict == "fail" for check in found)
    if json:
        show_json({"ok": well, "checks": msgspec.to_builtins(found)})
    else:
        for check in found:
            show_text(f"{MARKS[check.verdict]}  {check.name:<14} {check.found}")
            if check.cure:
                show_text(f"      {'':<14} cure: {check.cure}")
    if not well:
        raise typer.Exit(1)


def _gpus(home: Home) -> Check:
    """Those that it joined with, else against the configuration; what is wrong with these is another check's to say."""
    import msgspec

    from gateway.cli import checks, service_checks
    from models.catalog.config import load_config
    from models.catalog.errors import CatalogError
    from models.catalog.gpus import parse_gpus
    from models.fleet import node_file
    from models.home import node_name

    try:
        brought = node_file.read(home.node_file, otherwise=node_name()).gpus
        if brought is not None:
            return checks.gpus(parse_gpus(brought), by="`join`")
        return checks.gpus(load_config(service_checks.config_path(home)).simulated_gpus)
    except (CatalogError, OSError, msgspec.MsgspecError):
        return checks.gpus()


def _checks(given: HomeFolder, port: Port) -> Iterator[Callable[[], Check]]:
    from functools import partial

    from gateway.cli import checks, cluster_checks, meter_checks, postgres_checks, service_checks, store_checks

    home = home_of(given)
    yield from (checks.python, checks.packages, partial(checks.redis, home), partial(_gpus, home), checks.memory)
    yield from (partial(checks.disk, home), checks.shared_memory, checks.open_files, partial(checks.state_folder, home))
    yield partial(cluster_checks.membership, home)
    yield partial(service_checks.configuration, home)
    yield partial(store_checks.stored, home)
    yield partial(service_checks.port, home, port)
    yield partial(service_checks.processes, home)
    yield partial(service_checks.ray, home)
    yield partial(service_checks.launcher, home)
    yield partial(service_checks.engine_paths, home)
    yield partial(meter_checks.metering, home)
    yield postgres_checks.postgres
