"""``python -m loadtests``: N users stream chat completions from the running service; one line says what they felt.

Locust runs in a process of its own, because it replaces the standard library's sockets with its own. Its reports (HTML,
CSV, JSON) and the figures in full resolution (summary.json) are left in ``$ROUNDHOUSE_HOME/loadtests/<time>/``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loadtests.figures import one_line
from loadtests.served import chat_models
from loadtests.target import Target, TargetError, find_target, home_of
from loadtests.wire import CallFailed

ROOT = Path(__file__).resolve().parent.parent
ERRORS_SHOWN = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when every request was answered, 1 when some failed or no service runs, 2 for wrong options."""
    options = parse(argv)
    try:
        target = find_target(os.environ, options.allow_remote)
        models = chat_models(target, [name for name in options.models.split(",") if name])
    except (TargetError, CallFailed) as problem:
        say(f"loadtests: {problem}")
        return 1
    out = options.out or home_of(os.environ) / "loadtests" / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    out.mkdir(parents=True, exist_ok=True)
    say(f"{options.users} users on {', '.join(models)} at {target.url} for {options.run_time}")
    status = run_locust(locust_command(options, models, out), target)
    summary = read_summary(out / "summary.json")
    if summary is None:
        say(f"loadtests: Locust ended with status {status} before it had figures")
        return 1
    report(summary, out, options.json)
    return 0 if summary["requests"] and not summary["failures"] else 1


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--users", type=at_least_one, default=8, help="conversations at once (default 8)")
    parser.add_argument("--spawn-rate", type=float, default=4.0, help="users added per second (default 4)")
    parser.add_argument("--run-time", type=time_span, default="30s", help="such as 30s or 5m (default 30s)")
    parser.add_argument("--models", default="", help="comma-separated; all chat models when not given")
    parser.add_argument("--max-tokens", type=at_least_one, default=32, help="tokens asked for per answer (default 32)")
    parser.add_argument("--unstreamed", type=share, default=0.0, help="share of requests that do not stream, 0 to 1")
    parser.add_argument("--seed", type=int, default=0, help="repeats a run's requests (default 0)")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds without a byte until a request fails")
    parser.add_argument("--stop-timeout", type=int, default=30, help="seconds that open requests get at the end")
    parser.add_argument("--out", type=Path, help="folder for the reports")
    parser.add_argument("--allow-remote", action="store_true", help="load a service that is not on this machine")
    parser.add_argument("--json", action="store_true", help="the figures as JSON on stdout")
    return parser.parse_args(argv)


def at_least_one(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def share(text: str) -> float:
    if not 0 <= (number := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1, not {number}")
    return number


def time_span(text: str) -> str:
    """As Locust reads it, but refused before anything is asked of the service."""
    if not text or not re.fullmatch(r"(\d+h)?(\d+m)?(\d+s?)?", text):
        raise argparse.ArgumentTypeError(f"must look like 30s, 5m or 1h30m, not {text!r}")
    return text


def locust_command(options: argparse.Namespace, models: Sequence[str], out: Path) -> list[str]:
    given = {
        "--users": options.users,
        "--spawn-rate": options.spawn_rate,
        "--run-time": options.run_time,
        "--stop-timeout": options.stop_timeout,
        "--models": ",".join(models),
        "--max-tokens": options.max_tokens,
        "--unstreamed": options.unstreamed,
        "--seed": options.seed,
        "--timeout": options.timeout,
        "--summary": out / "summary.json",
        "--html": out / "report.html",
        "--csv": out / "locust",
        "--json-file": out / "locust",
        "--loglevel": "WARNING",
    }
    file = ROOT / "loadtests" / "locustfile.py"
    command = [sys.executable, "-m", "locust", "-f", str(file), "--headless", "--only-summary"]
    for name, value in given.items():
        command += [name, str(value)]
    return [*command, "--allow-remote"] if options.allow_remote else command


def run_locust(command: Sequence[str], target: Target) -> int:
    """Ctrl-C reaches Locust too, which then reports what it has; wait for it."""
    environ = {**os.environ, **target.environment(), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, cwd=ROOT)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def read_summary(file: Path) -> dict[str, Any] | None:
    try:
        summary: dict[str, Any] = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return summary


def report(summary: dict[str, Any], out: Path, as_json: bool) -> None:
    for error in summary["errors"][:ERRORS_SHOWN]:
        say(f"  {error['count']} x {error['error']}")
    say(f"reports: {out}")
    print(json.dumps(summary) if as_json else one_line(summary), flush=True)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
