"""``python -m loadtests SUITE``, also ``roundhouse loadtest SUITE``: load a service, and say what its callers feel.

``compare SUITE`` loads several in turns (``loadtests.compare``). ``--direct`` has the same load go to the engine
itself, too; ``report RUN.json`` makes a report of runs that are there (``loadtests.report``).

The run is left in ``run.json`` (``loadtests.outcome.document``) with Locust's own reports beside it, in ``--out`` or
``$ROUNDHOUSE_HOME/loadtests/<time>-<suite>/``, and so is its report: ``report.html``, ``.json``, ``.csv``, ``.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtests.compare.__main__ import main as compare
from loadtests.driver import NoRun, run_suite
from loadtests.load.settings import SettingsError
from loadtests.options import in_options, parse
from loadtests.outcome.slo import NO_SLO, SloError, read_slo
from loadtests.report.command import NAMES, own_goals, write_all
from loadtests.report.command import main as report
from loadtests.report.command import reported as analysis
from loadtests.report.passes import run_pairs
from loadtests.report.sides import load
from loadtests.target import TargetError, WrongTarget
from loadtests.told import lines
from loadtests.wire import CallFailed

OK, MISSED, WRONG = 0, 1, 2
PAGE = NAMES["html"]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when the goals were kept by a run that is valid; 1 when not, or when nothing could be run; 2 for wrong
    options."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["compare"]:
        return compare(words[1:])
    if words[:1] == ["report"]:
        return report(words[1:])
    as_json = "--json" in words
    try:
        options = parse(words)
        if hasattr(options, "home"):
            os.environ["ROUNDHOUSE_HOME"] = str(options.home)
        check(options)  # before anything is loaded
        if hasattr(options, "direct"):
            return paired(options, words)
        run, out = run_suite(options)
    except (SettingsError, SloError, WrongTarget) as problem:
        return failed(in_options(str(problem)), "usage", WRONG, as_json)
    except (TargetError, CallFailed, NoRun, OSError) as problem:
        return failed(str(problem), "no_run", MISSED, as_json)
    except KeyboardInterrupt:
        return failed("ended by Ctrl-C before there were figures", "no_run", MISSED, as_json)
    if as_json:
        print(json.dumps(shown(run)), flush=True)
    else:
        for line in lines(run):
            print(line, flush=True)
    page = reported(out)
    say(f"the report: {page}" if page else f"all of it: {out}")
    return OK if run["generator"]["valid"] and run["verdict"]["kept"] and run["summary"]["requests"] else MISSED


def check(options: argparse.Namespace) -> None:
    """Raises SettingsError, SloError."""
    slo = read_slo(options.slo) if hasattr(options, "slo") else NO_SLO
    if hasattr(options, "direct"):
        if hasattr(options, "web"):
            raise SettingsError("--direct runs many times: it has no page of Locust's (--web)")
        return
    if slo.added:
        raise SloError(f"added_{next(iter(slo.added))} is the cost over the engine itself: it takes --direct")
    for name in ("pairs", "reset"):
        if hasattr(options, name):
            raise SettingsError(f"--{name} goes with --direct")


def paired(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Direct and through the service, in turns. Raises what ``run_pairs`` does."""
    out = run_pairs(options, list(words))
    given = ["--slo", str(options.slo)] if hasattr(options, "slo") else []
    status = report([str(out), "--out", str(out), *given, *(["--json"] if hasattr(options, "json") else [])])
    say(f"the report: {out / PAGE}")
    return status


def reported(out: Path) -> Path | None:
    """The page of a single run; None where nothing was asked."""
    subject = load([out])
    return write_all(subject, analysis(subject, own_goals(subject)), out) if subject.shown.rows else None


def failed(message: str, code: str, status: int, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": {"message": message, "code": code, "cure": None}}), flush=True)
    else:
        say(f"error: {message}")
    return status


def shown(run: dict[str, Any]) -> dict[str, Any]:
    """Without the requests and the series."""
    return {name: value for name, value in run.items() if name not in ("requests", "series")}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
