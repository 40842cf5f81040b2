"""``python -m loadtests SUITE``, also ``roundhouse loadtest SUITE``: load a service, and say what its callers feel.

The run is left in ``run.json`` (``loadtests.outcome.document``) with Locust's own reports beside it, in ``--out`` or
``$ROUNDHOUSE_HOME/loadtests/<time>-<suite>/``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from loadtests.driver import NoRun, run_suite
from loadtests.load.settings import SettingsError
from loadtests.options import parse
from loadtests.outcome.slo import SloError, read_slo
from loadtests.target import TargetError
from loadtests.told import lines
from loadtests.wire import CallFailed

OK, MISSED, WRONG = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when the goals were kept by a run that is valid; 1 when not, or when nothing could be run; 2 for wrong
    options."""
    as_json = "--json" in (sys.argv if argv is None else argv)
    try:
        options = parse(argv)
        if hasattr(options, "slo"):
            read_slo(options.slo)  # before anything is loaded
        run, out = run_suite(options)
    except (SettingsError, SloError) as problem:
        return failed(problem, "usage", WRONG, as_json)
    except (TargetError, CallFailed, NoRun, OSError) as problem:
        return failed(problem, "no_run", MISSED, as_json)
    if as_json:
        print(json.dumps(shown(run)), flush=True)
    else:
        for line in lines(run):
            print(line, flush=True)
    say(f"all of it: {out}")
    return OK if run["generator"]["valid"] and run["verdict"]["kept"] and run["summary"]["requests"] else MISSED


def failed(problem: Exception, code: str, status: int, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": {"message": str(problem), "code": code, "cure": None}}), flush=True)
    else:
        say(f"error: {problem}")
    return status


def shown(run: dict[str, Any]) -> dict[str, Any]:
    """Without the requests and the series."""
    return {name: value for name, value in run.items() if name not in ("requests", "series")}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
