"""``roundhouse decisions --export``: the stream as a file, one JSON object a line, the oldest first."""

from __future__ import annotations

import gzip
import json as jsons
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.cli.client import AdminClient
from gateway.cli.errors import AskedWrongly, CliError
from gateway.cli.output import say, show_json, show_text

PAGE = 1000
CLOCKS_DIFFER_S = 5.0  # ids tell the time of Redis, decisions that of the controller


def run(service: AdminClient, path: Path, since: str | None, model: str | None, json: bool) -> None:
    """Complete, or not there at all. Raises CliError."""
    since_unix_s = 0.0 if since is None else time.time() - _seconds(since)
    part = path.with_name(f"{path.name}.part")
    count, first, last = 0, None, None
    try:
        with gzip.open(part, "wb") if path.suffix == ".gz" else part.open("wb") as file:
            for decision in _all(service, since_unix_s, model):
                file.write(jsons.dumps(decision, ensure_ascii=False).encode() + b"\n")
                first = decision["at_unix_s"] if first is None else first
                count, last = count + 1, decision["at_unix_s"]
        os.replace(part, path)
    except OSError as problem:
        raise CliError(
            f"{path} cannot be written: {problem.strerror or problem}",
            code="export_failed",
            cure="name a file in a folder that exists and may be written to",
        ) from None
    finally:
        part.unlink(missing_ok=True)
    if json:
        show_json({"path": str(path), "decisions": count, "first_unix_s": first, "last_unix_s": last})
    else:
        show_text(f"{path}: {count} decisions")
        if not count:
            say("Nothing was decided in that time.")


def _all(service: AdminClient, since_unix_s: float, model: str | None) -> Iterator[dict[str, Any]]:
    after = f"{max(0, int((since_unix_s - CLOCKS_DIFFER_S) * 1000))}-0"
    while True:
        page = service.get("decisions", after=after, limit=PAGE, model=model)
        yield from (each for each in page["data"] if each["at_unix_s"] >= since_unix_s)
        after = page["next_after"]
        if len(page["data"]) < PAGE:
            return


def _seconds(text: str) -> float:
    from models.catalog.errors import UnitError
    from models.catalog.units import parse_seconds

    try:
        return parse_seconds(text)
    except UnitError as error:
        raise AskedWrongly(f"--since: {error.message}", code="invalid_duration", cure=error.cure) from None
