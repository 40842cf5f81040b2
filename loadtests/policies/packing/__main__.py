"""``python -m loadtests.policies.packing --data ../shared/data``: a line per goal and item, and JSON with all."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from loadtests.policies.options import BadData, complain, parse_options
from loadtests.policies.packing import churn, decision_time, online, simulator, static
from loadtests.policies.report import Report

# P1 and P2; P7; P3 to P5; P6; M2.
PARTS = (online.run, decision_time.run, static.run, churn.run, simulator.run)


def main(argv: Sequence[str] | None = None) -> int:
    options = parse_options("packing", argv)
    report = Report("packing")
    try:
        for run in PARTS:
            run(options, report)
    except BadData as problem:
        return complain(problem)
    report.write(options.results, seeds=options.seeds, data=str(options.data))
    return 0


if __name__ == "__main__":
    sys.exit(main())
