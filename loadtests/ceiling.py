"""``python -m loadtests.ceiling``: how many open streams one generator core can follow and still be believed.

The suite ``steady`` with more and more users, against an engine in C that sends each stream a token every --pace
milliseconds. A step counts when the run is valid (``loadtests.outcome.health``): the ceiling is the last that does.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtests.coldstart.machine import machine
from loadtests.driver import run_suite
from loadtests.gateway.bench import raise_open_files
from loadtests.gateway.cores import children_on
from loadtests.gateway.fake_engine import fake_engine
from loadtests.gateway.native import compile_programs
from loadtests.gateway.ports import free_port
from loadtests.gateway.problems import CannotMeasure
from loadtests.options import parse

TOKENS = 64  # of each of the engine's streams
STREAMS = "500,1000,2000,4000,6000,8000"


def main(argv: Sequence[str] | None = None) -> int:
    options = _arguments(argv)
    raise_open_files()
    cores = sorted(os.sched_getaffinity(0))
    try:
        with tempfile.TemporaryDirectory(prefix="rh-ceiling-") as name:
            folder, port = Path(name), free_port()
            program = compile_programs(folder).engine
            with fake_engine(program, ["--pace", str(options.pace), port], [cores[-1]], folder / "engine.log"):
                steps = [_step(options, count, port, folder, cores[0]) for count in options.streams]
    except CannotMeasure as problem:
        print(f"ceiling: {problem}", file=sys.stderr)
        return 1
    valid = [step for step in steps if step["valid"]]
    best = max(valid, key=lambda step: step["streams"], default=None)
    shown = "none" if best is None else f"{best['streams']} streams, {best['events_per_s']:,.0f} events/s"
    print(f"ceiling of one generator core, a token each {options.pace:g} ms per stream: {shown}", flush=True)
    if options.json:
        document = {"benchmark": "ceiling", "machine": machine(), "pace_ms": options.pace, "steps": steps}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.ceiling", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--streams", type=_numbers, default=STREAMS, help=f"open at once, in turn (default {STREAMS})")
    parser.add_argument("--pace", type=float, default=50.0, help="ms between the tokens of a stream (default 50)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each step (default 8)")
    parser.add_argument("--json", type=Path, help="file for all figures")
    return parser.parse_args(argv)


def _numbers(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError(f"must be numbers from 1 on, such as {STREAMS}, not {text!r}")
    return found


def _step(options: argparse.Namespace, count: int, port: int, folder: Path, core: int) -> dict[str, Any]:
    words = ["steady", "--target", f"http://127.0.0.1:{port}", "--models", "m-paced", "--users", str(count), "--quiet"]
    words += ["--duration", f"{options.seconds}s", "--drain", "5s", "--spread", f"{TOKENS * options.pace / 1e3}s"]
    words += ["--out", str(folder / f"{count}")]
    with children_on([core]):
        run, _ = run_suite(parse(words))
    generator, series = run["generator"], run["series"]["generator"]
    middle = series["events"][len(series["events"]) // 2 :][:-1] or series["events"]
    step = {
        "streams": count,
        "open_most": max(series["open"]),
        "events_per_s": max(middle),
        "failed": run["summary"]["failed"],
        "gap_ms": run["summary"]["gap_ms"],
        **{
            name: generator[name]
            for name in ("valid", "reasons", "busiest_share", "waited_share", "read_late_ms", "clock")
        },
    }
    print(
        f"{count} users: {step['open_most']} open, {step['events_per_s']:,.0f} events/s, "
        f"{generator['busiest_share']:.0%} of the core (others had it for {generator['waited_share']:.0%}), "
        f"reads p99 {generator['read_late_ms']['p99']:.1f} ms late, "
        f"gap p50 {step['gap_ms'].get('p50', 0):.2f} ms, {step['failed']} failed: "
        f"{'valid' if generator['valid'] else '; '.join(generator['reasons'])}",
        flush=True,
    )
    return step


if __name__ == "__main__":
    sys.exit(main())
