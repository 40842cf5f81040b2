"""``roundhouse record``: what the running service decides, from what, and the requests that come, into a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from gateway.cli.client import AdminClient, find_service
from gateway.cli.errors import AskedWrongly, CliError
from gateway.cli.options import HomeFolder, Json
from gateway.cli.output import say, show_json, show_text

LOOK_EVERY_S = 0.5
ASK_FOR_S = 30.0  # asked again long before it is over: a recording that nobody reads ends by itself
ASK_EVERY_S = 10.0
PAGE = 500


def record(
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write; *.gz is compressed", show_default=False)],
    duration: Annotated[
        str, typer.Option("--duration", help="How long, such as 90s, 10m or 2h; Ctrl-C ends it")
    ] = "1m",
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """Record decisions, the worlds they were made from, and arrivals; `replay` and `simulate --trace` read the file."""
    duration_s = _seconds(duration)
    if out.exists() and not force:
        raise AskedWrongly(f"{out} is there already", code="file_exists", cure="name another file, or give --force")
    service = find_service(home)
    status = service.get("status")
    written = Written()
    with _open(out) as file:
        file.write(_header(status) + "\n")
        began_s = time.monotonic()
        try:
            for line in follow(service, lambda: duration_s - (time.monotonic() - began_s), time.sleep, written):
                file.write(line + "\n")
        except KeyboardInterrupt:
            say("Ended.")
    _report(out, written, time.monotonic() - began_s, json)


@dataclass(slots=True)
class Written:
    lines: int = 0
    steps: int = 0
    arrivals: int = 0
    missed: int = 0


def follow(
    service: AdminClient, left_s: Callable[[], float], sleep: Callable[[float], None], written: Written
) -> Iterator[str]:
    """Lines as they come, until no time is left; what was decided before then is still fetched."""
    after, number, asked_at_s = "", 0, float("inf")
    while True:
        left = left_s()
        if (left > 0 and asked_at_s - left >= ASK_EVERY_S) or not after:
            answer = service.post("recording", for_s=max(0.1, min(ASK_FOR_S, left)))
            after, asked_at_s = after or answer["next_after"], left
        page = service.get("recording", after=after, limit=PAGE)
        after = page["next_after"]
        for each in page["data"]:
            if number and each["number"] > number + 1:
                written.missed += each["number"] - number - 1
            number = each["number"]
            written.lines += 1
            written.steps += each["line"].startswith('{"kind":"step"')
            written.arrivals += each["line"].startswith('{"kind":"arrivals"')
            yield each["line"]
        if left <= 0 and len(page["data"]) < PAGE:
            return
        if len(page["data"]) < PAGE:
            sleep(min(LOOK_EVERY_S, max(0.05, left)))


def _header(status: dict[str, Any]) -> str:
    from models.control.recording import Header, encode_line

    return encode_line(Header(roundhouse=status["version"], at_unix_s=time.time(), simulated=status["simulated"]))


def _seconds(text: str) -> float:
    from models.catalog.errors import UnitError
    from models.catalog.units import parse_seconds

    try:
        seconds = parse_seconds(text)
    except UnitError as error:
        raise AskedWrongly(f"--duration: {error.message}", code="invalid_duration", cure=error.cure) from None
    if seconds <= 0:
        raise AskedWrongly("--duration: nothing is recorded in no time", code="invalid_duration", cure="write 60s")
    return seconds


@contextmanager
def _open(path: Path) -> Iterator[TextIO]:
    import gzip

    try:
        if path.suffix == ".gz":
            with gzip.open(path, "wt", encoding="utf-8") as compressed:
                yield compressed
        else:
            with path.open("w", encoding="utf-8") as plain:
                yield plain
    except OSError as problem:
        raise CliError(
            f"{path} cannot be written: {problem.strerror or problem}", code="file", cure="name another file"
        ) from None


def _report(out: Path, written: Written, took_s: float, json: bool) -> None:
    document = {
        "path": str(out),
        "seconds": round(took_s, 3),
        "decisions": written.steps,
        "arrivals": written.arrivals,
        "missed_lines": written.missed,
    }
    if json:
        show_json(document)
    else:
        show_text(f"{out}: {written.steps} decisions and {written.arrivals} counts of arrivals in {took_s:.0f} s")
        if written.missed:
            say(f"{written.missed} lines came faster than they could be read, and are missing.")
