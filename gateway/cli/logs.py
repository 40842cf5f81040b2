"""``roundhouse logs``: what a model's engines, or a part of the service, have written and go on writing."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.client import find_service, home_of
from gateway.cli.errors import AskedWrongly, CliError, NotRunning, Refused, Unreachable
from gateway.cli.options import HomeFolder, Json
from gateway.cli.output import say, show_json_line, show_text
from gateway.service import credentials

LOOK_EVERY_S = 0.25
MOST_LINES = 10_000

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="A model's id or alias, or a part: gateway, control, launcher, redis, ray",
        show_default=False,
    ),
]


def logs(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, max=MOST_LINES, help="How many, counted from the newest")
    ] = 100,
    replica: Annotated[str | None, typer.Option("--replica", help="Only this one", show_default=False)] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Only those not older than this, such as 10m", show_default=False)
    ] = None,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Show the logs of a model's replicas together, or of a part of the service. JSON comes one object a line.

    Replicas that have ended are there as well. When no service runs, the files are read as it left them.
    """
    since_unix_s = None if since is None else time.time() - _seconds(since)
    query = {"lines": lines, "follow": "true" if follow else None, "since_unix_s": since_unix_s}
    try:
        with closing(_lines(name, replica, query, home)) as found:
            _show(found, json)
    except KeyboardInterrupt:
        return  # that is how one stops following


def _lines(
    name: str, replica: str | None, query: dict[str, Any], home: Path | None
) -> Generator[dict[str, Any], None, None]:
    answered = False
    try:
        for line in _from_service(name, replica, query, home):
            answered = True
            yield line
    except NotRunning:
        yield from _left_behind(name, replica, query, home)
    except Unreachable:
        # One that is somewhere else has its files there; and one that ended meanwhile has shown them.
        if answered or (home is None and os.environ.get(credentials.URL)):
            raise
        yield from _left_behind(name, replica, query, home)


def _from_service(name: str, replica: str | None, query: dict[str, Any], home: Path | None) -> Iterator[dict[str, Any]]:
    service = find_service(home)
    try:
        yield from service.lines("logs", model=name, replica=replica, **query)
    except Refused as refusal:
        if refusal.code != "model_not_found" or replica is not None:
            raise
        yield from _of_part(service.lines("logs", part=name, **query), refusal)


def _of_part(lines: Iterator[dict[str, Any]], no_such_model: Refused) -> Iterator[dict[str, Any]]:
    try:
        yield from lines
    except Refused as refusal:
        if refusal.code == "no_log":  # it is neither: the word on models is the more helpful one
            raise no_such_model from None
        raise


def _left_behind(name: str, replica: str | None, query: dict[str, Any], home: Path | None) -> Iterator[dict[str, Any]]:
    """From the files themselves, as nobody is there to be asked."""
    import msgspec

    from gateway.log_sources import model_logs, part_logs, part_names
    from models.runtimes.host.log_reader import Follower, last_lines

    folder = home_of(home)
    parts = part_names(folder)
    found = [source for source in model_logs(folder, name) if replica in (None, source.name)]
    found = found or ([] if replica else part_logs(folder, name))
    if not found:
        raise CliError(
            f"no service runs for {folder.root}, and it has left no log of {name!r}",
            code="no_log",
            cure=f"start it: roundhouse up; or name one of its parts: {', '.join(parts) or 'there is none'}",
        )
    say(f"No service answers; these are the files in {folder.logs}.")
    with closing(Follower()) as follower:
        if query["follow"]:
            follower.follow(found, from_the_beginning=False)
        for line in last_lines(found, query["lines"], query["since_unix_s"], follower.ends()):
            yield msgspec.to_builtins(line)
        while query["follow"]:
            time.sleep(LOOK_EVERY_S)
            for line in follower.new_lines():
                yield msgspec.to_builtins(line)


def _show(lines: Iterator[dict[str, Any]], json: bool) -> None:
    for line in lines:
        if json:
            show_json_line(line)
        else:
            show_text(f"{line['source']} | {line['text']}")


def _seconds(text: str) -> float:
    from models.catalog.errors import UnitError
    from models.catalog.units import parse_seconds

    try:
        return parse_seconds(text)
    except UnitError as error:
        raise AskedWrongly(f"--since: {error.message}", code="invalid_duration", cure=error.cure) from None
