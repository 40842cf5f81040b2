"""``python -m loadtests.policies.packing --data ../shared/data``: a line per goal and item, and JSON with all."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

from loadtests.policies.options import BadData, complain, parse_options
from loadtests.policies.report import Report

# Goals P1 and P2; P7; P3 to P5; P6. Each has ``run(options, report)``.
PARTS = ("online", "decision_time", "static", "churn")


def main(argv: Sequence[str] | None = None) -> int:
    options = parse_options("packing", argv)
    report = Report("packing")
    try:
        for part in PARTS:
            name = f"{__package__}.{part}"
            if find_spec(name) is not None:
                import_module(name).run(options, report)
    except BadData as problem:
        return complain(problem)
    report.write(options.results, seeds=options.seeds, data=str(options.data))
    return 0


if __name__ == "__main__":
    sys.exit(main())
