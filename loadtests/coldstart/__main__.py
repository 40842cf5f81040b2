"""``python -m loadtests.coldstart``: what it costs to call a model that is not running.

Measures through a real gateway: the one that runs already, else one of its own, whose own start is then measured too.
A stock vLLM server is started in the same run for comparison. Prints one line per figure and writes JSON.
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
from loadtests.coldstart.child import free_port
from loadtests.coldstart.figure import Figure, ratio_line
from loadtests.coldstart.machine import machine, versions
from loadtests.coldstart.passes import first_token_s, passes
from loadtests.coldstart.service import OwnService, ServiceFailed
from loadtests.coldstart.stock import Command, stock_first_token_s
from loadtests.coldstart.stock import command as stock_command
from loadtests.served import chat_models, served_models
from loadtests.target import Target, TargetError, find_target, home_of
from loadtests.wire import CallFailed

MODELS = "tiny-llama,tiny-qwen3"
UP_GOAL_S = 25.0


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when everything was measured, whatever the figures are; 1 when something was not; 2 for wrong options."""
    options = parse(argv)
    models = [name for name in options.models.split(",") if name]
    began = datetime.now(UTC)
    document: dict[str, Any] = {
        "benchmark": "coldstart",
        "date_utc": began.isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "passes": options.passes,
    }
    try:
        with service_to_measure(options, models[0]) as (target, starts):
            document["own_service"] = bool(starts)
            figures = starts + measure(target, models, options)
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
    parser.add_argument(
        "--passes", type=int, default=5, help="measured passes per model, after one uncounted (default 5)"
    )
    parser.add_argument("--models", default=MODELS, help=f"comma-separated (default {MODELS})")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--own", action="store_true", help="start a service of its own even when one runs")
    parser.add_argument("--no-stock", action="store_true", help="leave the stock vLLM server out")
    parser.add_argument("--stock-passes", type=int, default=1, help="starts of the stock server per model (default 1)")
    options = parser.parse_args(argv)
    if options.passes < 1 or options.stock_passes < 1:
        parser.error("--passes and --stock-passes must be at least 1")
    if not options.models.strip(","):
        parser.error("--models must name a model")
    return options


@contextlib.contextmanager
def service_to_measure(options: argparse.Namespace, model: str) -> Iterator[tuple[Target, list[Figure]]]:
    """The running service; else one of the benchmark's own, with the figures of its start. Raises CallFailed."""
    if not options.own and (target := running_target()) is not None:
        say(f"measuring the service at {target.url}")
        yield target, []
        return
    home = Path(tempfile.mkdtemp(prefix="rh-bench-"))
    service = OwnService(home, free_port())
    try:
        yield timed_starts(service, model)
    except BaseException:
        with contextlib.suppress(ServiceFailed):  # the first problem is the one to tell of
            service.down()
        raise
    else:
        service.down()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def running_target() -> Target | None:
    """None when no service answers where the environment says that one should be."""
    try:
        target = find_target(os.environ)
        served_models(target)
    except TargetError:
        return None
    return target


def timed_starts(service: OwnService, model: str) -> tuple[Target, list[Figure]]:
    """Start it twice: the first time makes the demo's models, the second is what an operator sees from then on."""
    fresh = Figure("roundhouse up to the first answer, making the demo's models", model)
    prepared = Figure("roundhouse up to the first answer, prepared", model, goal_s=UP_GOAL_S)
    say("starting a service for the benchmark, twice")
    fresh.seconds.append(service.up(model)[1])
    service.down()
    target, seconds = service.up(model)
    prepared.seconds.append(seconds)
    return target, [fresh, prepared]


def measure(target: Target, models: Sequence[str], options: argparse.Namespace) -> list[Figure]:
    """Raises TargetError when a model is not served, CallFailed when the admin API does not answer."""
    chat_models(target, models)
    admin = Admin(target)
    figures: list[Figure] = []
    folders = {model: admin.source(model) for model in models}
    for model in models:
        say(f"{model}: {options.passes} passes")
        ours = passes(admin, model, options.passes, say, first_token_s)
        figures += ours
        with contextlib.suppress(CallFailed):
            admin.stop(model)  # the stock server gets the machine to itself
        if not options.no_stock:
            figures.append(stock(folders[model], model, options.stock_passes))
    return figures


def stock(folder: str, model: str, count: int, command: Command = stock_command) -> Figure:
    figure = Figure("stock vLLM server, spawn to first token", model)
    say(f"{model}: starting a stock vLLM server, which takes a while")
    with tempfile.TemporaryDirectory(prefix="rh-stock-") as scratch:
        for _ in range(count):
            try:
                figure.seconds.append(stock_first_token_s(folder, model, Path(scratch) / "log", command))
            except CallFailed as problem:
                figure.problem = str(problem)
                break
    return figure


def report(figures: Sequence[Figure]) -> None:
    for figure in figures:
        print(figure.line())
    by_name = {(figure.model, figure.name): figure for figure in figures}
    for (model, name), figure in by_name.items():
        stock_figure = by_name.get((model, "stock vLLM server, spawn to first token"))
        if name == "stopped model to first token" and stock_figure and (line := ratio_line(figure, stock_figure)):
            print(line)
    sys.stdout.flush()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
