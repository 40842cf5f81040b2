"""``python -m loadtests.compare SUITE``, also ``roundhouse loadtest compare SUITE``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from loadtests.compare.command import compared
from loadtests.compare.options import parse
from loadtests.compare.problems import CannotCompare
from loadtests.compare.table import text
from loadtests.driver import NoRun
from loadtests.load.settings import SettingsError
from loadtests.options import in_options
from loadtests.outcome.slo import SloError
from loadtests.target import TargetError
from loadtests.wire import CallFailed

OK, MISSED, WRONG = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when everyone was measured by valid runs and kept the goals; 1 when not; 2 for wrong options."""
    words = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in words
    try:
        asked = parse(words)
        made, out = compared(asked, say)
    except (SettingsError, SloError) as problem:
        return failed(in_options(str(problem)), "usage", WRONG, as_json)
    except (CannotCompare, TargetError, CallFailed, NoRun, OSError) as problem:
        return failed(str(problem), "no_comparison", MISSED, as_json)
    if as_json:
        print(json.dumps(made), flush=True)
    else:
        for line in text(made):
            print(line, flush=True)
    say(f"all of it: {out}")
    return OK if made["ok"] else MISSED


def failed(message: str, code: str, status: int, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": {"message": message, "code": code, "cure": None}}), flush=True)
    else:
        for line in message.splitlines():
            say(f"error: {line}")
    return status


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
