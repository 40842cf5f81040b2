"""``roundhouse loadtest``: what callers of a service feel under a load. A program of its own, started from here."""

from __future__ import annotations

from pathlib import Path

import typer

from gateway.cli.options import HomeFolder, Json

# All words go on to the load test as they are, --help too: it knows its suites and their options.
CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def loadtest(context: typer.Context, home: HomeFolder = None, json: Json = False) -> int:
    """Load a service and say what its callers feel."""
    return _start([*context.args, *(["--json"] if json else [])], home)


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
