"""``roundhouse down``: end everything that runs for a state folder, whoever started it and however it was left."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from gateway.cli.client import home_of
from gateway.cli.errors import CliError
from gateway.cli.options import DryRun, HomeFolder, Json
from gateway.cli.output import say, show_json, show_text

if TYPE_CHECKING:
    from gateway.service.processes import ProcessId
    from models.home import Home

# Longer than all grace periods of a stop in order; then it is no longer asked.
ORDERLY_S = 60.0
LOOK_EVERY_S = 0.05


def down(home: HomeFolder = None, dry_run: DryRun = False, json: Json = False) -> None:
    """End the service. No process is left; fine when nothing runs."""
    found = home_of(home)
    if dry_run:
        _show_processes(found, json)
        return
    outcome = end_all(found)
    if json:
        show_json(outcome)
    else:
        show_text(_sentence(outcome))


def end_all(home: Home, wait_s: float = ORDERLY_S) -> dict[str, Any]:
    """What was there and is gone. Raises CliError when something would not end."""
    from gateway.service import record
    from gateway.service.sweep import sweep

    supervisor = record.holder(home)
    forced = False
    if supervisor is not None:
        say(f"Ending the service (pid {supervisor.pid})")
        forced = not _end_supervisor(supervisor, wait_s)
    with _alone(home):
        swept = sweep(lambda: record.processes(home), grace_s=0.0 if forced else 2.0)
        record.remove(home)
    if swept.left:
        pids = sorted(process.pid for process in swept.left)
        raise CliError(
            f"these processes would not end: {', '.join(map(str, pids))}", code="left_behind", details={"pids": pids}
        )
    return {
        "home": str(home.root),
        "was_running": supervisor is not None,
        "forced": forced,
        "leftovers_ended": len(swept.ended),
    }


@contextlib.contextmanager
def _alone(home: Home) -> Iterator[None]:
    """No service is started while this lasts. Raises CliError when one has just been."""
    from gateway.service import record

    if not home.run.exists():
        yield
        return
    try:
        held = record.lock(home)
    except record.AlreadyRunning as problem:
        raise CliError(f"{problem}: it was started just now", code="already_running", cure="roundhouse down") from None
    try:
        yield
    finally:
        os.close(held)


def _end_supervisor(supervisor: ProcessId, wait_s: float) -> bool:
    """Whether it ended in order; if not, it is killed, and what it kept is for the sweep."""
    from gateway.service.processes import alive, send

    send(supervisor, signal.SIGTERM)
    if _until(lambda: not alive(supervisor), wait_s):
        return True
    say("It does not end by itself; killing it.")
    send(supervisor, signal.SIGKILL)
    _until(lambda: not alive(supervisor), 10.0)
    return False


def _until(condition: Callable[[], bool], wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_EVERY_S)
    return True


def _sentence(outcome: dict[str, Any]) -> str:
    home, leftovers = outcome["home"], outcome["leftovers_ended"]
    if not outcome["was_running"] and not leftovers:
        return f"Nothing runs for {home}."
    if not outcome["was_running"]:
        return f"The service for {home} was gone; ended {leftovers} processes that it had left."
    how = (
        f"Killed the service for {home} and {leftovers} processes."
        if outcome["forced"]
        else f"Ended the service for {home}."
    )
    return f"{how} No process is left."


def _show_processes(home: Home, json: bool) -> None:
    from gateway.service import record
    from gateway.service.processes import command_line

    supervisor = record.holder(home)
    found = record.processes(home) | ({supervisor} if supervisor else frozenset())
    shown = [
        {"pid": process.pid, "command": command_line(process.pid)} for process in sorted(found, key=lambda p: p.pid)
    ]
    shown = [entry for entry in shown if entry["pid"] != os.getpid()]
    if json:
        show_json({"home": str(home.root), "processes": shown})
        return
    show_text(f"would end {len(shown)} processes of {home.root}")
    for entry in shown:
        show_text(f"  {entry['pid']:>8} {str(entry['command'])[:120]}")
