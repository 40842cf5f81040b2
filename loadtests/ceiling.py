"""``python -m loadtests.ceiling``: how much one generator core can follow and still be believed.

Against an engine in C, the suite ``steady``: with more and more users, each stream a token every --pace milliseconds;
and with more and more short requests a second that are not streamed, in an open loop. A step counts when the run is
valid (``loadtests.outcome.health``): the ceiling is the last that does.
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
RATES = "2000,4000,6000,9000,13000"


def main(argv: Sequence[str] | None = None) -> int:
    options = _arguments(argv)
    raise_open_files()
    cores = sorted(os.sched_getaffinity(0))
    try:
        with tempfile.TemporaryDirectory(prefix="rh-ceiling-") as name:
            folder, port = Path(name), free_port()
            program = compile_programs(folder).engine
            with fake_engine(program, ["--pace", str(options.pace), port], [cores[-1]], folder / "engine.log"):
                streams = [_streams(options, count, port, folder, cores[0]) for count in options.streams]
                requests = [_requests(options, rate, port, folder, cores[0]) for rate in options.rates]
    except CannotMeasure as problem:
        print(f"ceiling: {problem}", file=sys.stderr)
        return 1
    print(f"ceiling of one generator core: {best(streams)} (a token each {options.pace:g} ms); {best(requests)}")
    if options.json:
        document = {"benchmark": "ceiling", "machine": machine(), "pace_ms": options.pace}
        document |= {"streams": streams, "requests": requests}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def best(steps: Sequence[dict[str, Any]]) -> str:
    """The largest step whose run was valid, in words."""
    found = max((step for step in steps if step["valid"]), key=lambda step: step["asked"], default=None)
    if found is None:
        return "no step was valid" if steps else "not measured"
    if "streams" in found:
        return f"{found['streams']} streams, {found['events_per_s']:,.0f} events/s"
    return f"{found['requests_per_s']:,.0f} short requests/s"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.ceiling", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--streams", type=_numbers, default=STREAMS, help=f"open at once, in turn (default {STREAMS})")
    parser.add_argument("--rates", type=_numbers, default=RATES, help=f"requests a second, in turn (default {RATES})")
    parser.add_argument("--pace", type=float, default=50.0, help="ms between the tokens of a stream (default 50)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each step (default 8)")
    parser.add_argument("--json", type=Path, help="file for all figures")
    return parser.parse_args(argv)


def _numbers(text: str) -> list[int]:
    """``none``: nothing of it."""
    if text == "none":
        return []
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError(f"must be numbers from 1 on, such as {STREAMS}, not {text!r}")
    return found


def _streams(options: argparse.Namespace, count: int, port: int, folder: Path, core: int) -> dict[str, Any]:
    words = ["--models", "m-paced", "--users", str(count), "--spread", f"{TOKENS * options.pace / 1e3}s"]
    run = _run(options, words, port, folder / f"streams-{count}", core)
    series = run["series"]["generator"]
    middle = series["events"][len(series["events"]) // 2 :][:-1] or series["events"]
    step = {"streams": count, "open_most": max(series["open"]), "events_per_s": max(middle)}
    step |= {"gap_ms": run["summary"]["gap_ms"], **_health(run, count)}
    gap_ms = step["gap_ms"].get("p50", 0)
    print(f"{count} users: {step['open_most']} open, {step['events_per_s']:,.0f} events/s, gap p50 {gap_ms:.2f} ms, "
          f"{_told(step)}", flush=True)  # fmt: skip
    return step


def _requests(options: argparse.Namespace, rate: int, port: int, folder: Path, core: int) -> dict[str, Any]:
    words = ["--models", "m", "--rate", str(rate), "--unstreamed", "1", "--prompt-tokens", "fixed:16"]
    run = _run(options, words, port, folder / f"rate-{rate}", core)
    step = {"requests_per_s": run["summary"]["requests_per_s"], "e2e_ms": run["summary"]["e2e_ms"]}
    step |= _health(run, rate)
    e2e_ms, late_ms = step["e2e_ms"].get("p50", 0), step["send_late_ms"].get("p99", 0)
    print(f"{rate} requests/s: {step['requests_per_s']:,.0f} answered, E2E p50 {e2e_ms:.2f} ms, "
          f"sends p99 {late_ms:.1f} ms late, {_told(step)}", flush=True)  # fmt: skip
    return step


def _run(options: argparse.Namespace, words: Sequence[str], port: int, out: Path, core: int) -> dict[str, Any]:
    where = ["steady", "--target", f"http://127.0.0.1:{port}", "--quiet", "--out", str(out)]
    with children_on([core]):
        run, _ = run_suite(parse([*where, "--duration", f"{options.seconds}s", "--drain", "5s", *words]))
    return run


def _health(run: dict[str, Any], asked: int) -> dict[str, Any]:
    names = ("valid", "reasons", "busiest_share", "waited_share", "read_late_ms", "send_late_ms", "clock")
    generator = {name: run["generator"][name] for name in names}
    return {"asked": asked, "failed": run["summary"]["failed"], **generator}


def _told(step: dict[str, Any]) -> str:
    return (
        f"{step['busiest_share']:.0%} of the core (others had it for {step['waited_share']:.0%}), "
        f"reads p99 {step['read_late_ms']['p99']:.1f} ms late, {step['failed']} failed: "
        f"{'valid' if step['valid'] else '; '.join(step['reasons'])}"
    )


if __name__ == "__main__":
    sys.exit(main())
