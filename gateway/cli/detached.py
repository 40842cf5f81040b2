"""``--detach``: the service in a session of its own, started by a command that waits until it serves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

import msgspec

from gateway.cli.errors import AskedWrongly, CliError
from gateway.cli.plan import Planned
from gateway.cli.up import show_serving
from gateway.service.parts import environment
from gateway.service.report import Event, Report, to_screen
from models.home import Home

LOG_NAME = "supervisor.log"
STOP_WAIT_S = 60.0


def start_detached(home: Home, words: Sequence[str], serving: Callable[[], Event], json: bool) -> None:
    """Returns once the service answers. Raises CliError with what kept it from doing so."""
    log = home.logs / LOG_NAME
    reading, writing = os.pipe()
    with log.open("ab") as output:
        log.chmod(0o600)
        child = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", *words, "--report-to", str(writing)],
            cwd=home.root,
            env=environment(home),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=(writing,),
        )
    os.close(writing)
    try:
        with open(reading, encoding="utf-8") as events:
            _wait(events, to_screen(sys.stderr), log)
    except KeyboardInterrupt:
        child.terminate()
        child.wait(STOP_WAIT_S)
        raise
    # Told anew: paths are shown as seen from here.
    show_serving(serving(), json)


def arguments(planned: Planned) -> list[str]:
    this = planned.installation
    words = ["--home", str(this.home.root), "--config", str(this.config)]
    words += ["--host", this.gateway.host, "--port", str(this.gateway.port)]
    words += ["--workers", str(this.gateway.workers)]
    return [*words, "--gpus", this.gpus] if this.gpus else words


def _wait(events: TextIO, screen: Report, log: Path) -> None:
    """Show what is reported until the service serves. Raises CliError."""
    for line in events:
        event = msgspec.json.decode(line, type=Event)
        if event.kind == "serving":
            return
        if event.kind == "failed":
            raise failure(event)
        screen(event)
    raise CliError("the service ended before it served", code="start_failed", cure=f"the reason is at the end of {log}")


def failure(event: Event) -> CliError:
    """The error that the detached process has met, as if it had been met here."""
    kind = AskedWrongly if event.data.get("exit_code") == AskedWrongly.exit_code else CliError
    data = event.data
    return kind(event.text, code=data["code"], cure=data["cure"], details=data["details"])
