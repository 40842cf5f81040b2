"""``make bench-autoscale``: spikes of one model's traffic, ours against Knative's defaults and fixed sizes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from multiprocessing import get_context

from loadtests.policies.autoscale.goals import ANCHOR_TICK_S, GOALS, PRODUCTION_TICK_S, SLOTS, Task, measure
from loadtests.policies.autoscale.traces import RATES, load
from loadtests.policies.options import BadData, complain, parse_options
from loadtests.policies.report import Figure, Report


def main(argv: Sequence[str] | None = None) -> int:
    options = parse_options("autoscale", argv)
    try:
        traces = load(options)
    except BadData as problem:
        return complain(problem)
    tasks = [(goal, requests) for requests in traces for goal in GOALS if options.wants(goal.name, requests.name)]
    if not tasks:
        items = ", ".join(sorted({requests.name for requests in traces}))
        return complain(BadData(f"--only names no goal and no item; goals: A1, A2; items: {items}"))
    report = Report("autoscale")
    for figures in _measured(tasks, options.jobs):
        for figure in figures:
            report.add(figure)
    report.write(
        options.results,
        slots=SLOTS,
        tick_s={"ours": PRODUCTION_TICK_S, "anchors": ANCHOR_TICK_S},
        service_model={"prefill_per_s": RATES.prefill_per_s, "decode_per_s": RATES.decode_per_s},
    )
    return 0


def _measured(tasks: Sequence[Task], jobs: int) -> Iterator[list[Figure]]:
    if jobs == 1 or len(tasks) == 1:
        yield from map(measure, tasks)
        return
    with get_context("spawn").Pool(min(jobs, len(tasks))) as pool:
        yield from pool.imap(measure, tasks)


if __name__ == "__main__":
    sys.exit(main())
