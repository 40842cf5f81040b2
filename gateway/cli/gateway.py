"""``roundhouse gateway``: the data plane on its own, in front of upstreams that a file names."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.errors import AskedWrongly, CliError
from gateway.cli.options import DryRun, Json
from gateway.cli.output import say, show_json, show_table

if TYPE_CHECKING:
    from gateway.standalone.keys_file import KeysFile
    from gateway.standalone.table import Table

MOST_WORKERS = 64
AUTO = "auto"
MOST_ON_AUTO = 8  # beyond that engines want the cores more than we do

RoutesPath = Annotated[Path, typer.Option("--routes", help="Models and their upstreams: docs/standalone.md")]
KeysPath = Annotated[
    Path | None,
    typer.Option("--keys", help="Who may call; left out: everybody on this machine", show_default=False),
]
Workers = Annotated[str, typer.Option("--workers", help="Processes on the port; auto: one per core, up to 8")]
AccessLog = Annotated[str, typer.Option("--access-log", help="Which requests are logged: all, errors, off")]
ReadyFile = Annotated[
    Path | None,
    typer.Option("--ready-file", help="Gets the port once requests are answered", show_default=False),
]
TlsCert = Annotated[
    Path | None,
    typer.Option("--tls-cert", help="Certificate chain (PEM); read again when it changes", show_default=False),
]
TlsKey = Annotated[Path | None, typer.Option("--tls-key", help="Its key, without a password", show_default=False)]


def gateway(
    routes: RoutesPath,
    keys: KeysPath = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one")] = 8000,
    workers: Workers = "1",
    access_log: AccessLog = "all",
    ready_file: ReadyFile = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Serve models from a file: no Ray, no controller, no Redis. Until Ctrl-C.

    Both files are read again when they change.
    """
    count = worker_count(workers, len(os.sched_getaffinity(0)))
    if access_log not in ("all", "errors", "off"):
        raise AskedWrongly(f"--access-log cannot be {access_log!r}", code="usage", cure="choose all, errors or off")
    if (tls_cert is None) != (tls_key is None):
        raise AskedWrongly("--tls-cert and --tls-key go together", code="usage", cure="name both, or none")
    table, known = _read(routes, keys)
    if known is None:
        check_open(host)
    url = f"{'http' if tls_cert is None else 'https'}://{f'[{host}]' if ':' in host else host}:{port}"
    if dry_run:
        _show(table, known, url, count, json)
        return
    _say_what_comes(table, known, url, count)
    words = ["--routes", routes, "--host", host, "--port", port, "--workers", count, "--access-log", access_log]
    for name, value in (
        ("--keys", keys),
        ("--ready-file", ready_file),
        ("--tls-cert", tls_cert),
        ("--tls-key", tls_key),
    ):
        words += [] if value is None else [name, value]
    _become(words)


def worker_count(given: str, cores: int) -> int:
    """Raises AskedWrongly."""
    if given == AUTO:
        return max(1, min(cores, MOST_ON_AUTO))
    if given.isascii() and given.isdigit() and 1 <= int(given) <= MOST_WORKERS:
        return int(given)
    cure = f"write a number from 1 to {MOST_WORKERS}, or auto"
    raise AskedWrongly(f"--workers cannot be {given!r}", code="usage", cure=cure)


def check_open(host: str) -> None:
    """Raises AskedWrongly where others than this machine could call without a key."""
    from gateway.standalone.loopback import is_loopback

    if not is_loopback(host):
        raise AskedWrongly(
            f"without keys everybody who reaches {host} could call",
            code="keys_required",
            cure="name a file of keys with --keys, or listen on --host 127.0.0.1",
        )


def _read(routes: Path, keys: Path | None) -> tuple[Table, KeysFile | None]:
    """Raises AskedWrongly naming every wrong field."""
    from gateway.cli.config import config_error
    from gateway.standalone.reading import read_keys, read_table
    from models.catalog.errors import ConfigError

    path = routes
    try:
        table = read_table(routes, os.environ)
        if keys is None:
            return table, None
        path = keys
        return table, read_keys(path)
    except ConfigError as error:
        wrong = config_error(path, error)
        wrong.cure = "docs/standalone.md describes every field"
        raise wrong from None


def _say_what_comes(table: Table, known: KeysFile | None, url: str, workers: int) -> None:
    upstreams = sum(len(model.replicas) for model in table.models)
    where = url if not url.endswith(":0") else "a free port"
    what = f"{_count(len(table.models), 'model')} on {_count(upstreams, 'upstream')}"
    say(f"{what}, at {where} with {_count(workers, 'worker')}")
    if known is None:
        say("No keys are named: everybody on this machine may call.")


def _show(table: Table, known: KeysFile | None, url: str, workers: int, json: bool) -> None:
    if json:
        show_json(_document(table, known, url, workers))
        return
    rows = (
        (model.model_id, ", ".join((*model.aliases, *model.adapters)), each.endpoint, each.serves_as,
         each.weight if each.state == "ready" else 0, each.slots)
        for model in table.models
        for each in model.replicas
    )  # fmt: skip
    show_table(("MODEL", "ALSO", "UPSTREAM", "AS", "WEIGHT", "SLOTS"), rows, "")
    _say_what_comes(table, known, url, workers)


def _document(table: Table, known: KeysFile | None, url: str, workers: int) -> dict[str, Any]:
    models = [
        {
            "model_id": model.model_id,
            "aliases": model.aliases,
            "adapters": model.adapters,
            "upstreams": [
                {
                    "url": each.endpoint,
                    "model": each.serves_as,
                    "weight": each.weight if each.state == "ready" else 0,
                    "slots": each.slots,
                }
                for each in model.replicas
            ],
        }
        for model in table.models
    ]
    keys = None if known is None else [{"id": key.key_id, "name": key.name, "scopes": key.scopes} for key in known.keys]
    return {"url": url, "workers": workers, "models": models, "keys": keys}


def _become(words: Sequence[object]) -> None:
    """In this process's place: what was loaded to check the files is of no use to a worker or a master."""
    command = [sys.executable, "-m", "gateway.standalone", *map(str, words)]
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execv(command[0], command)
    except OSError as problem:
        raise CliError(f"the gateway cannot be started: {problem}", code="start_failed") from None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
