"""``python -m loadtests.coldstart``: what it costs to call a model that is not running.

Where a service runs already, its models are measured through it. Otherwise the benchmark starts services and engines of
its own and measures all that the goals ask: first tokens through the gateway and bare, stock vLLM beside them, speed
after the switch-over, memory of many engines, eight replicas at once, and a thousand starts. One line per figure, JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loadtests.coldstart.admin import Admin
from loadtests.coldstart.bare import bare_launcher
from loadtests.coldstart.bare_passes import bare_first_tokens, bare_speeds, cycles, measure_speeds
from loadtests.coldstart.child import free_port
from loadtests.coldstart.figure import Figure, ratio_line
from loadtests.coldstart.machine import machine, versions
from loadtests.coldstart.passes import first_token_s, passes
from loadtests.coldstart.scene import SIZES, Sized, make_models, write_config
from loadtests.coldstart.service import OwnService, ServiceFailed
from loadtests.coldstart.stock import Command, stock_server
from loadtests.coldstart.stock import command as stock_command
from loadtests.coldstart.swarm import engines, replicas
from loadtests.served import chat_models, served_models
from loadtests.target import Target, TargetError, find_target, home_of
from loadtests.wire import CallFailed

MODELS = "tiny-llama,tiny-qwen3"
PARTS = ("up", "first-token", "speed", "replicas", "engines", "cycles")
UP_GOAL_S = 25.0
SPEED_GOAL = 0.95
STOPPED, STOCK = "stopped model to first token", "stock vLLM server, spawn to first token"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when everything was measured, whatever the figures are; 1 when something was not; 2 for wrong options."""
    options = parse(argv)
    began = datetime.now(UTC)
    document: dict[str, Any] = {
        "benchmark": "coldstart",
        "date_utc": began.isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "passes": options.passes,
    }
    try:
        target = None if options.own else running_target()
        document["own_service"] = target is None
        figures = measure_running(target, options) if target is not None else measure_own(options)
    except (TargetError, CallFailed) as problem:
        say(f"coldstart: {problem}")
        return 1
    document["load_1m_at_end"] = machine()["load_1m"]  # a noisy neighbour shows
    document["figures"] = [figure.document() for figure in figures]
    name = f"coldstart-{began.strftime('%Y%m%dT%H%M%SZ')}.json"
    file = options.json or home_of(os.environ) / "loadtests" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=1) + "\n")
    report(figures)
    say(f"figures: {file}")
    return 1 if any(figure.problem for figure in figures) else 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.coldstart", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--passes", type=int, default=5, help="measured passes per model, after one uncounted (default 5)")
    add("--models", default=MODELS, help=f"of a service that runs already, comma-separated (default {MODELS})")
    add("--json", type=Path, help="where to write the figures")
    add("--own", action="store_true", help="start a service of its own even when one runs")
    add("--only", default=",".join(PARTS), help=f"parts of the own measurement, comma-separated ({','.join(PARTS)})")
    add("--no-stock", action="store_true", help="leave the stock vLLM server out")
    add("--engines", type=int, default=100, help="live engines of the part `engines` (default 100)")
    add("--cycles", type=int, default=1000, help="starts and stops of the part `cycles` (default 1000)")
    options = parser.parse_args(argv)
    if min(options.passes, options.cycles) < 1 or options.engines < 20:
        parser.error("--passes and --cycles must be at least 1, --engines at least 20")
    options.models = [name for name in options.models.split(",") if name]
    if not options.models:
        parser.error("--models must name a model")
    options.only = [part for part in options.only.split(",") if part]
    if unknown := sorted(set(options.only) - set(PARTS)):
        parser.error(f"--only: there is no part {unknown[0]}; there are {', '.join(PARTS)}")
    return options


def running_target() -> Target | None:
    """None when no service answers where the environment says that one should be."""
    try:
        target = find_target(os.environ)
        served_models(target)
    except TargetError:
        return None
    return target


def measure_running(target: Target, options: argparse.Namespace) -> list[Figure]:
    """Raises TargetError when a model is not served, CallFailed when the admin API does not answer."""
    say(f"measuring the service at {target.url}")
    chat_models(target, options.models)
    admin = Admin(target)
    figures: list[Figure] = []
    for model in options.models:
        say(f"{model}: {options.passes} passes")
        figures += passes(admin, model, options.passes, say, first_token_s)
        with contextlib.suppress(CallFailed):
            admin.stop(model)  # the stock server gets the machine to itself
        if not options.no_stock:
            figures.append(stock(admin.source(model), model)[0])
    return figures


def measure_own(options: argparse.Namespace) -> list[Figure]:
    """Raises CallFailed when what is to be measured cannot be set up."""
    root = Path(tempfile.mkdtemp(prefix="rh-bench-"))
    try:
        folders = make_models(root / "models", [sized.name for sized in SIZES])
        figures = timed_starts(root / "demo") if "up" in options.only else []
        if {"first-token", "speed", "replicas", "engines"} & set(options.only):
            figures += measure_service(root / "service", folders, options)
        if {"first-token", "speed", "cycles"} & set(options.only):
            figures += measure_bare(root / "bare", folders, options)
        if "first-token" in options.only and not options.no_stock:
            figures += measure_stock(folders, figures)
        return figures
    finally:
        shutil.rmtree(root, ignore_errors=True)


def timed_starts(home: Path, service: OwnService | None = None, model: str = SIZES[0].name) -> list[Figure]:
    """Start the demo twice: the first time makes its models, the second is what an operator sees from then on."""
    home.mkdir(parents=True, exist_ok=True)
    service = service or OwnService(home, free_port())
    fresh = Figure("roundhouse up to the first answer, making the demo's models", model)
    prepared = Figure("roundhouse up to the first answer, prepared", model, goal=UP_GOAL_S)
    say("starting the demo, twice")
    for figure in (fresh, prepared):
        with own_service(service, model) as (_, seconds):
            figure.values.append(seconds)
    return [fresh, prepared]


def measure_service(home: Path, folders: dict[str, Path], options: argparse.Namespace) -> list[Figure]:
    home.mkdir()
    write_config(home / "bench.yaml", folders, options.engines)
    with own_service(OwnService(home, free_port(), config=home / "bench.yaml"), SIZES[0].name) as (target, _):
        admin = Admin(target)
        figures: list[Figure] = []
        for sized in SIZES:
            if "first-token" in options.only:
                say(f"{sized.name} ({sized.size}): {options.passes} passes through the gateway")
                figures += passes(admin, sized.name, options.passes, say, first_token_s, sized.first_token_goal_s)
            if "speed" in options.only:
                figures += service_speeds(admin, sized)
            with contextlib.suppress(CallFailed):
                admin.stop(sized.name)
        if "replicas" in options.only:
            say("eight replicas at once")
            figures += replicas(admin, options.passes)
        if "engines" in options.only:
            say(f"{options.engines} live engines")
            figures += engines(admin, str(home), options.engines, first_token_s, say)
        return figures


def service_speeds(admin: Admin, sized: Sized) -> list[Figure]:
    gap = Figure("through the gateway, time between tokens", sized.name, unit="ms")
    crowd = Figure("through the gateway, 32 callers", sized.name, unit="tokens/s")
    try:
        first_token_s(admin.target, sized.name)
        gap.beside["weights"] = admin.await_settled(sized.name)
        measure_speeds(admin.target, sized.name, gap, crowd)
    except CallFailed as problem:
        gap.problem = crowd.problem = str(problem)
    return [gap, crowd]


def measure_bare(folder: Path, folders: dict[str, Path], options: argparse.Namespace) -> list[Figure]:
    folder.mkdir()
    figures: list[Figure] = []
    with bare_launcher(folder) as launcher:
        for sized in SIZES:
            say(f"{sized.name} ({sized.size}): bare engine")
            if "first-token" in options.only:
                figures += bare_first_tokens(launcher, sized, folders[sized.name], options.passes, first_token_s)
            if "speed" in options.only:
                figures += bare_speeds(launcher, sized, folders[sized.name])
        if "cycles" in options.only:
            say(f"{options.cycles} cycles of start, answer, stop")
            figures += cycles(launcher, folders[SIZES[0].name], options.cycles, first_token_s, say)
    return figures


def measure_stock(folders: dict[str, Path], ours: Sequence[Figure]) -> list[Figure]:
    """The stock server of each size, alone on the machine; with the ratio of our speeds to its."""
    figures: list[Figure] = []
    for sized in SIZES:
        measured = stock(str(folders[sized.name]), sized.name)
        figures += measured
        for theirs, name in zip(measured[1:], ("time between tokens", "32 callers"), strict=True):
            mine = [figure for figure in ours if (figure.model, figure.name) == (sized.name, f"bare engine, {name}")]
            if mine and mine[0].values and theirs.values:
                quotient = mine[0].median / theirs.median
                speed = 1 / quotient if theirs.unit == "ms" else quotient
                title = f"bare engine's speed over the stock server's, {name}"
                figures.append(Figure(title, sized.name, goal=SPEED_GOAL, unit="x", wanted="at least", values=[speed]))
    return figures


@contextlib.contextmanager
def own_service(service: OwnService, model: str) -> Iterator[tuple[Target, float]]:
    """Where it listens, and the seconds to its first answer. Raises CallFailed."""
    try:
        yield service.up(model)
    except BaseException:
        with contextlib.suppress(ServiceFailed):  # the first problem is the one to tell of
            service.down()
        raise
    service.down()


def stock(folder: str, model: str, command: Command = stock_command) -> list[Figure]:
    """One start of a stock server, and its speeds."""
    start = Figure(STOCK, model)
    gap = Figure("stock vLLM server, time between tokens", model, unit="ms")
    crowd = Figure("stock vLLM server, 32 callers", model, unit="tokens/s")
    say(f"{model}: starting a stock vLLM server, which takes a while")
    try:
        with (
            tempfile.TemporaryDirectory(prefix="rh-stock-") as scratch,
            stock_server(folder, model, Path(scratch) / "log", command) as (target, seconds),
        ):
            start.values.append(seconds)
            measure_speeds(target, model, gap, crowd)
    except CallFailed as problem:
        for figure in (start, gap, crowd):
            figure.problem = str(problem)
    return [start, gap, crowd]


def report(figures: Sequence[Figure]) -> None:
    for figure in figures:
        print(figure.line())
    by_name = {(figure.model, figure.name): figure for figure in figures}
    for (model, name), figure in by_name.items():
        stock_figure = by_name.get((model, STOCK))
        if name == STOPPED and stock_figure and (line := ratio_line(figure, stock_figure)):
            print(line)
    sys.stdout.flush()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
