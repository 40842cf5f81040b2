"""``python -m loadtests.chaos``: processes are killed, stopped and silenced, one by one, at every kind of moment.

Starts a service of its own with real engines, Redis and Ray, and plays the matrix of faults and moments on it. For each
cell: what callers saw, how long it took until everything was as before, whether the ledger held at every look, and that
nothing was placed twice or left over. Prints the matrix, writes JSON; exit status 1 when a cell is red.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loadtests.chaos.cell import Play, Result
from loadtests.chaos.faults import FAULTS, SILENT_S
from loadtests.chaos.matrix import cell_text, document, reasons, samples_line, table
from loadtests.chaos.moments import MOMENTS
from loadtests.chaos.service import ChaosService
from loadtests.coldstart.machine import machine, versions
from loadtests.target import home_of
from loadtests.wire import CallFailed

Cells = Sequence[tuple[str, str]]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when every cell is green, 1 when one is red or was not played, 2 for wrong options."""
    options = parse(argv)
    began = datetime.now(UTC)
    about: dict[str, Any] = {
        "benchmark": "chaos",
        "date_utc": began.isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "silent_s": options.silent,
    }
    home = Path(tempfile.mkdtemp(prefix="rh-"))
    try:
        results, left = play(ChaosService(home), options.cells, options.silent)
    except CallFailed as problem:
        say(f"chaos: {problem}")
        return 1
    finally:
        shutil.rmtree(home, ignore_errors=True)
    file = options.json or home_of(os.environ) / "loadtests" / f"chaos-{began.strftime('%Y%m%dT%H%M%SZ')}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    results.sort(key=lambda result: list(FAULTS).index(result.fault))
    about |= {"load_1m_at_end": machine()["load_1m"], "left_at_the_end": left}
    file.write_text(json.dumps(document(results, about), indent=1) + "\n")
    print(table(results))
    print(f"{samples_line(results)}; processes left at the end: {', '.join(left) or 'none'}")
    say(f"figures: {file}")
    return 1 if reasons(results) or left else 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.chaos", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--only", default=",".join(FAULTS), help=f"faults, comma-separated ({','.join(FAULTS)})")
    add("--when", default=",".join(MOMENTS), help=f"moments, comma-separated ({','.join(MOMENTS)})")
    add(
        "--silent",
        type=float,
        default=SILENT_S,
        help=f"seconds for which what goes on again is silent (default {SILENT_S:g})",
    )
    add("--json", type=Path, help="where to write the figures")
    options = parser.parse_args(argv)
    faults = _known(parser, "--only", options.only, FAULTS)
    moments = _known(parser, "--when", options.when, MOMENTS)
    if options.silent <= 0:
        parser.error("--silent must be more than 0")
    # Moment by moment, not fault by fault: what ends again and again within a minute is started again later and later.
    options.cells = [(fault, moment) for moment in moments for fault in faults]
    return options


def _known(parser: argparse.ArgumentParser, flag: str, given: str, known: Iterable[str]) -> list[str]:
    names = [name for name in given.split(",") if name]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        parser.error(f"{flag}: there is no {unknown[0] if unknown else 'empty choice'}; there are {', '.join(known)}")
    return names


def play(service: ChaosService, cells: Cells, silent_s: float) -> tuple[list[Result], list[str]]:
    """The cells one after the other on one service, which is started anew after a cell that it did not recover from;
    with them what was left of it in the end, which should be nothing. Raises CallFailed."""
    results: list[Result] = []
    left: list[str] = []
    try:
        for fault, moment in cells:
            result = play_cell(service, fault, moment, silent_s)
            results.append(result)
            say(f"{fault} x {moment}: {cell_text(result)}")
            if result.problem or not result.recovered.whole:
                say("it did not recover, and is started anew")
                left += _left(service)
    finally:
        left += _left(service)
    return results, left


def play_cell(service: ChaosService, fault: str, moment: str, silent_s: float) -> Result:
    """Again when the moment had passed before the fault struck, a few times. Raises CallFailed."""
    tries = 3
    while True:
        up = service.up()
        result = Play(up.admin, up.census, up.before, silent_s).cell(FAULTS[fault], MOMENTS[moment])
        tries -= 1
        if result.hit or not tries:
            return result
        say(f"{fault} x {moment}: the moment had passed; again")


def _left(service: ChaosService) -> list[str]:
    return [f"{process.kind} ({process.pid})" for process in service.down()]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
