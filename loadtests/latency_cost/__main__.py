"""``python -m loadtests.latency_cost``, also ``make latency-cost``: measure the figures of docs/latency-cost.md.

The running service is loaded (``make run``); peers are started here. A table is filled only with figures that may be
believed: a run that is not valid leaves the one before, and is told. Each part prints a line, and leaves
``<part>.json`` in ``--out``, with everything its load test left beside it.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadtests.latency_cost.page import PageError, filled
from loadtests.latency_cost.parts import MODEL, PARTS, PEERS, Measured, NoFigures, present
from loadtests.latency_cost.where import command, footing
from loadtests.served import served_models
from loadtests.stopping import whole
from loadtests.target import TargetError, find_target
from loadtests.wire import CallFailed

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "latency-cost.md"
OUT = Path("bench-results") / "latency-cost"
FEWEST_PEERS = 2
BUSY = 1.0  # load before anything was begun


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when every part that was asked for is in the page; 1 when one is not; 2 for wrong options."""
    options = _parser().parse_args(argv)
    names = [name.strip() for name in options.only.split(",") if name.strip()] or list(PARTS)
    if unknown := [name for name in names if name not in PARTS]:
        _parser().error(f"--only: no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if any(PARTS[name].served for name in names) and (why := _no_service()):
        say(f"error: {why}")
        return 1
    before = os.getloadavg()[0]
    if before > BUSY:
        say(f"this machine is busy (load {before:.1f}): figures will be of that too; end what else runs")
    peers = Path(options.peers) if options.peers else None
    try:
        done = [_part(name, options.page, options.out.absolute(), peers, before) for name in names]
    except KeyboardInterrupt:
        say("ended; tables that were filled stay")
        return 1
    return 0 if all(done) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.latency_cost", description=(__doc__ or "").split("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--only", default="", help=f"of {','.join(PARTS)}")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--out", type=Path, default=OUT, help=f"where runs and JSON are left (default {OUT})")
    parser.add_argument("--peers", default="", help="folder of peers: make bench-peers PEERS=DIR")
    return parser


def _no_service() -> str | None:
    """What has to be done first; None when the service runs and has the model."""
    try:
        target = find_target(os.environ)
        there = [str(entry["id"]) for entry in served_models(target)]
    except (TargetError, CallFailed) as problem:
        return str(problem)
    if MODEL not in there:
        return f"{target.url} does not serve {MODEL}, which is measured; `make run` does"
    if not target.admin_key:
        return "the running service's admin key is needed: set ROUNDHOUSE_ADMIN_KEY"
    return None


def _part(name: str, page: Path, out: Path, peers: Path | None, load_before: float) -> bool:
    """Whether its rows are in the page now."""
    words = list(PARTS[name].words)
    missing: dict[str, str] = {}
    try:
        if name == PEERS:
            more, missing = _peers(peers)
            words += more
        folder = out / name
        _play(name, words, folder)
        measured = PARTS[name].measured(folder)
        note = footing(measured, name, load_before, missing)
        page.write_text(filled(page.read_text(), name, measured.rows + _absent(measured, missing), note))
    except (OSError, PageError, NoFigures) as problem:
        for line in str(problem).splitlines():
            say(f"{name}: the page stays as it is: {line}")
        return False
    print(f"{name}: {measured.said}; in {page.name}", flush=True)
    _leave(out / f"{name}.json", measured, {"part": name, "command": command(name), "note": note, "words": words})
    return True


def _peers(installed: Path | None) -> tuple[list[str], dict[str, str]]:
    """Words of ``compare``, and who cannot be started. Raises NoFigures where nobody is left to be compared."""
    names, missing = present(installed)
    for one, why in missing.items():
        say(f"{PEERS}: {one} is left out: {why}")
    if len(names) < FEWEST_PEERS:
        raise NoFigures(["there are not two to be compared"])
    return [",".join(names), *(["--peers", str(installed)] if installed else [])], missing


def _play(name: str, words: Sequence[str], folder: Path) -> None:
    """Its own figures are in the folder's report: nothing but progress comes to the terminal."""
    say(f"{name}: loadtest {' '.join(words)}")
    for file in ("report.json", "run.json", "pairs.json", "comparison.json"):
        (folder / file).unlink(missing_ok=True)  # what an earlier one left is not to be taken for this one's
    asked = [sys.executable, "-m", "loadtests", *words, "--quiet", "--out", str(folder)]
    whole(functools.partial(subprocess.run, asked, check=False, stdout=subprocess.DEVNULL))


def _absent(measured: Measured, missing: Mapping[str, str]) -> list[list[str]]:
    columns = len(measured.rows[0])
    return [[name, *["-"] * (columns - 2), "not measured"] for name in missing]


def _leave(file: Path, measured: Measured, about: Mapping[str, Any]) -> None:
    file.write_text(json.dumps({"benchmark": "latency-cost", **about, **asdict(measured)}, indent=1) + "\n")
    say(f"all of it: {file}, and the folder beside it")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
