"""``roundhouse loadtest``: what callers of a service feel under a load. A program of its own, started from here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import HomeFolder, Json

# Options that are not named here go on to the load test as they are.
CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}
EPILOG = (
    "Each suite has a preset; all options that change it: python -m loadtests --help. With --direct, the same load "
    "goes to the engine itself, too, in turns: what Roundhouse costs. Every run leaves report.html in --out."
)

Suite = Annotated[
    str,
    typer.Argument(
        metavar="SUITE",
        help="smoke, steady, ramp, spike, zero, many-models, replay, noisy-neighbour, soak, chaos; or report RUN.json, "
        "compare SUITE --targets NAME=URL,.. --start NAME,..",
        show_default=False,
    ),
]


def loadtest(
    context: typer.Context,
    suite: Suite,
    target: Annotated[
        str | None, typer.Option("--target", metavar="URL", help="Any OpenAI-compatible service", show_default=False)
    ] = None,
    slo: Annotated[
        Path | None, typer.Option("--slo", help="Goals (YAML); exit 1 if missed", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for run.json", show_default=False)] = None,
    duration: Annotated[str | None, typer.Option("--duration", help="Such as 30s or 5m", show_default=False)] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Arrivals a second: an open load", show_default=False)
    ] = None,
    users: Annotated[
        int | None, typer.Option("--users", help="Users at once: a closed load", show_default=False)
    ] = None,
    trace: Annotated[Path | None, typer.Option("--trace", help="What replay plays", show_default=False)] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Generator processes, a core each", show_default=False)
    ] = None,
    web: Annotated[
        int | None, typer.Option("--web", metavar="PORT", help="Locust's own page, on loopback", show_default=False)
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option("--metrics-port", metavar="PORT", help="Live metrics for Prometheus", show_default=False),
    ] = None,
    home: HomeFolder = None,
    json: Json = False,
) -> int:
    """Load the running service, or another, and say what its callers feel: TTFT, gaps, errors, goodput."""
    given = {
        "--target": target,
        "--slo": slo,
        "--out": out,
        "--duration": duration,
        "--rate": rate,
        "--users": users,
        "--trace": trace,
        "--workers": workers,
        "--web": web,
        "--metrics-port": metrics_port,
    }
    words = [suite]
    for option, value in given.items():
        words += [] if value is None else [option, str(value)]
    return _start([*words, *(["--json"] if json else []), *context.args], home)


def _start(words: list[str], home: Path | None) -> int:
    """Its exit status. Ctrl-C reaches it too, and it writes what it has: wait for that."""
    import os
    import subprocess
    import sys

    from gateway.service.parts import SOURCE_ROOT

    path = os.pathsep.join([str(SOURCE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environ = {**os.environ, "PYTHONPATH": path, **({"ROUNDHOUSE_HOME": str(home)} if home else {})}
    process = subprocess.Popen([sys.executable, "-m", "loadtests", *words], env=environ)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue
