"""``roundhouse up``: start everything, say when it answers, stop it again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.errors import CliError
from gateway.cli.options import (
    ConfigFile,
    Detach,
    DryRun,
    Gpus,
    HomeFolder,
    Host,
    Json,
    NodeName,
    Port,
    ReportTo,
    Workers,
)
from gateway.cli.output import show_json, show_text

if TYPE_CHECKING:
    from gateway.cli.plan import Planned
    from gateway.service.report import Event, Report
    from gateway.service.run import Run


def up(
    config: ConfigFile = None,
    port: Port = None,
    host: Host = None,
    home: HomeFolder = None,
    gpus: Gpus = None,
    workers: Workers = None,
    lead: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="ADDRESS[:PORT]",
            help="Lead a cluster: other machines reach this one there and may `join`; without it all is on loopback",
            show_default=False,
        ),
    ] = None,
    name: NodeName = None,
    detach: Detach = False,
    dry_run: DryRun = False,
    json: Json = False,
    report_to: ReportTo = None,
) -> None:
    """Start the service and serve until Ctrl-C.

    Without a configuration it serves the demo: several real models on simulated GPUs.
    """
    from gateway.cli.membership import leading, settle
    from gateway.cli.plan import create_home, plan
    from gateway.cli.summary import serving_event
    from gateway.service.run import Run

    refuse_second(home)
    led = leading(create_home(home), lead, name)
    planned = plan(config=config, host=host, port=port, gpus=gpus, home=home, workers=workers, cluster=led.cluster)
    if dry_run:
        _show_parts(planned, json)
        return
    settle(planned.installation.home, led)
    if detach:
        from gateway.cli.detached import arguments, start_detached

        words = arguments(planned) + led.words()
        start_detached(planned.installation.home, ("up", *words), lambda: serving_event(planned, detached=True), json)
        return
    detached = report_to is not None
    serve(Run(planned.installation, planned.url, serving_event(planned, detached), detached), json, report_to)


def refuse_second(home: Path | None) -> None:
    """Raises CliError when this installation runs already."""
    from gateway.service import record
    from models.home import Home

    found = Home.find(home)
    running = record.running(found)
    if running is not None:
        raise already_running(record.AlreadyRunning(found, running))


def already_running(problem: Exception) -> CliError:
    running = getattr(problem, "record", None)
    details = {"url": running.url, "pid": running.pid} if running else {}
    return CliError(str(problem), code="already_running", cure="use it, or end it: roundhouse down", details=details)


def serve(this: Run, json: bool, report_to: int | None) -> None:
    """Until it is ended. Raises CliError."""
    from gateway.service.report import Event, to_all, to_json_lines
    from gateway.service.run import run

    report = _reporter(json)
    if report_to is not None:
        report = to_all(report, to_json_lines(open(report_to, "w", encoding="utf-8")))  # noqa: SIM115 - until the end
    report(Event(kind="note", text=f"Roundhouse starts in {this.installation.home.root}"))
    try:
        translated(lambda: run(this, report))
    except CliError as error:
        if report_to is not None:
            report(failure_event(error))
        raise


def translated(action: Callable[[], None]) -> None:
    """Run it; what it raises comes out as CliError."""
    from gateway.service.ports import PortInUse
    from gateway.service.record import AlreadyRunning
    from gateway.service.run import LeftBehind
    from gateway.service.supervisor import StartFailed
    from models.secret import NoSecret

    try:
        action()
    except AlreadyRunning as problem:
        raise already_running(problem) from None
    except PortInUse as problem:
        raise CliError(str(problem), code="port_in_use") from None
    except LeftBehind as problem:
        raise CliError(str(problem), code="left_behind", cure="end them by hand, then: roundhouse up") from None
    except StartFailed as problem:
        shown = "".join(f"\n    | {line}" for line in problem.lines)
        raise CliError(
            f"the service could not be started, everything is stopped again: {problem}{shown}",
            code="start_failed",
            cure="roundhouse doctor looks at what it needs; the logs are in the state folder, under logs",
            details={"part": problem.part, "log": list(problem.lines)},
        ) from None
    except NoSecret as problem:
        raise CliError(str(problem), code="no_secret") from None
    except OSError as problem:
        raise CliError(f"the service could not be started: {problem}", code="start_failed") from None


def failure_event(error: CliError) -> Event:
    from gateway.service.report import Event

    details = {"code": error.code, "cure": error.cure, "exit_code": error.exit_code, "details": error.details}
    return Event(kind="failed", text=error.message, data=details)


def _reporter(json: bool) -> Report:
    """Progress to stderr; what is served to stdout."""
    from gateway.service.report import to_screen

    screen = to_screen(sys.stderr)

    def report(event: Event) -> None:
        if event.kind == "serving":
            show_serving(event, json)
        elif event.kind != "failed":
            screen(event)

    return report


def show_serving(event: Event, json: bool) -> None:
    if json:
        show_json(event.data)
    else:
        show_text(event.text)


def _show_parts(planned: Planned, json: bool) -> None:
    from gateway.service.parts import all_parts

    parts = all_parts(planned.installation)
    if json:
        listed = [{"name": part.name, "needs": part.needs, "command": part.command} for part in parts]
        show_json({"url": planned.url, "config": str(planned.installation.config), "parts": listed})
        return
    show_text(f"would serve {planned.installation.config} at {planned.url} with these parts:")
    for part in parts:
        after = f" (after {', '.join(part.needs)})" if part.needs else ""
        show_text(f"  {part.name}: {part.what}{after}\n    {' '.join(part.command)}")
