"""P1 and P2: online placement on the openb trace, against first-fit, best-fit and FGD as its authors published it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean

from loadtests.policies.options import BadData, Options
from loadtests.policies.packing.openb import NODES, Machine, read_machines, read_published, read_tasks, task_lists
from loadtests.policies.packing.openb_run import NodeOrder, Outcome, TieRule, Trial, run_trial
from loadtests.policies.report import Figure, Report
from packers.placement import Ask

SEEDS = tuple(range(42, 52))
DEFAULT_LIST = "default"
UNALLOCATED_LIMIT = 4.6  # P1, mean over seeds
ANY_ORDER_LIMIT = 4.8  # P1, every order of nodes and rule for ties
SLACK = 0.3  # P2, points below the authors' FGD that are still good
SEEDS_PER_ORDER = 2
MANY_LISTS, SEEDS_OF_MANY = 10, 5  # of more lists than that, only so many seeds each
OURS, FGD = "ours", "fgd-as-published"
BASELINES = {"FGD as published": FGD, "first-fit": "first-fit", "best-fit": "best-fit-as-published"}
ORDERS = tuple(
    (order, ties)
    for order in NodeOrder
    for ties in TieRule
    if (order, ties) != (NodeOrder.SHUFFLED, TieRule.FIRST)  # that one is P1's first line
)


Published = Mapping[str, Mapping[str, Mapping[int, float]]]  # [list][policy][seed]: GPU % allocated


@dataclass(frozen=True, slots=True)
class Job:
    machines: Path
    tasks: Path
    trial: Trial


def run(options: Options, report: Report) -> None:
    """Raises BadData for files that are missing or wrong."""
    try:
        machines, lists = options.files(NODES)[0], task_lists(options)
    except BadData:
        if options.wants("P1", DEFAULT_LIST) or options.wants("P2"):
            raise
        return  # other goals were asked for: they need no such files
    seeds = options.seeds or SEEDS
    p1 = options.wants("P1", DEFAULT_LIST)
    if p1 and DEFAULT_LIST not in lists:
        print(f"P1 is left out: {options.data} has no task list {DEFAULT_LIST!r}", file=sys.stderr)
        p1 = False
    p2 = [name for name in lists if options.wants("P2", name)]
    read_machines(machines)
    for name in {*p2, DEFAULT_LIST} if p1 else p2:
        read_tasks(lists[name])  # so that a bad file is named before an hour of work, not after
    published = read_published(options)
    p2_seeds = seeds if options.seeds or len(p2) <= MANY_LISTS else seeds[:SEEDS_OF_MANY]
    jobs = [Job(machines, lists[name], trial) for name, trial in _trials(p1, p2, published, seeds, p2_seeds)]
    outcomes = dict(zip(jobs, _run_all(jobs, options.jobs), strict=True))
    by_list = {
        name: {job.trial: outcome for job, outcome in outcomes.items() if job.tasks == path}
        for name, path in lists.items()
    }
    if p1:
        _report_p1(by_list[DEFAULT_LIST], seeds, report)
    for name in p2:
        _report_p2(name, by_list[name], published.get(name, {}), p2_seeds, report)


def _trials(
    p1: bool, p2: Sequence[str], published: Published, seeds: Sequence[int], p2_seeds: Sequence[int]
) -> list[tuple[str, Trial]]:
    wanted: dict[tuple[str, Trial], None] = {}
    for name in p2:
        wanted |= {(name, _ours(seed)): None for seed in p2_seeds}
        if "FGD" not in published.get(name, {}):
            wanted |= {(name, Trial(FGD, seed)): None for seed in p2_seeds}
    if p1:
        wanted |= {(DEFAULT_LIST, Trial(policy, seed)): None for policy in BASELINES.values() for seed in seeds}
        wanted |= {(DEFAULT_LIST, _ours(seed)): None for seed in seeds}
        for order, ties in ORDERS:
            wanted |= {(DEFAULT_LIST, _ours(seed, order, ties)): None for seed in seeds[:SEEDS_PER_ORDER]}
        wanted |= {(DEFAULT_LIST, trial): None for trial in _fragile(seeds)}
    # The long ones first, so that no process is left with one at the end.
    return sorted(wanted, key=lambda one: (one[1].policy != OURS, one[1].policy != FGD))


def _ours(seed: int, order: NodeOrder = NodeOrder.SHUFFLED, ties: TieRule = TieRule.FIRST) -> Trial:
    return Trial(OURS, seed, order, ties, learns=True)


def _fragile(seeds: Sequence[int]) -> list[Trial]:
    return [Trial(FGD, seed, ties=TieRule.RANDOM) for seed in seeds[:SEEDS_PER_ORDER]]


def _run_all(jobs: Sequence[Job], processes: int) -> list[Outcome]:
    if processes == 1:
        return [run_job(job) for job in jobs]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return list(pool.map(run_job, jobs))


def run_job(job: Job) -> Outcome:
    machines, tasks = _read(job.machines, job.tasks)
    return run_trial(job.trial, machines, tasks)


@cache
def _read(machines: Path, tasks: Path) -> tuple[list[Machine], list[Ask]]:
    return read_machines(machines), read_tasks(tasks)


def _report_p1(outcomes: Mapping[Trial, Outcome], seeds: Sequence[int], report: Report) -> None:
    others = {name: _mean(outcomes, [Trial(policy, seed) for seed in seeds]) for name, policy in BASELINES.items()}
    each = {str(seed): round(100 - outcomes[_ours(seed)].allocated_percent, 3) for seed in seeds}
    unallocated = _mean(outcomes, [_ours(seed) for seed in seeds])
    report.add(
        Figure(
            "P1",
            DEFAULT_LIST,
            f"GPUs unallocated at 1.3x load, {len(seeds)} seeds",
            unallocated,
            "%",
            UNALLOCATED_LIMIT,
            others=others,
            details={"by seed": each},
        )
    )
    by_order = {
        f"{order}, ties {ties}": _mean(outcomes, [_ours(seed, order, ties) for seed in seeds[:SEEDS_PER_ORDER]])
        for order, ties in ORDERS
    }
    worst = max(by_order, key=lambda name: by_order[name])
    fragile = {"FGD as published, random ties": _mean(outcomes, _fragile(seeds))}
    report.add(
        Figure(
            "P1",
            f"{DEFAULT_LIST}-orders",
            f"worst of {len(by_order)} node orders and tie rules ({worst})",
            by_order[worst],
            "%",
            ANY_ORDER_LIMIT,
            others=fragile,
            details={"by order": by_order},
        )
    )


def _report_p2(
    name: str,
    outcomes: Mapping[Trial, Outcome],
    published: Mapping[str, Mapping[int, float]],
    seeds: Sequence[int],
    report: Report,
) -> None:
    """The anchor is the mean of the authors' own runs; of a list that they did not publish, of ours of their rule."""
    theirs = published.get("FGD")
    anchor = fmean(theirs.values()) if theirs else 100 - _mean(outcomes, [Trial(FGD, seed) for seed in seeds])
    anchor_name = "FGD, the authors' own runs" if theirs else "FGD as published, run here"
    others = {anchor_name: anchor}
    for policy in ("BestFit", "DotProd"):
        if policy in published:
            others[f"{policy}, the authors' own runs"] = fmean(published[policy].values())
    allocated = 100 - _mean(outcomes, [_ours(seed) for seed in seeds])
    report.add(
        Figure(
            "P2",
            name,
            f"GPUs allocated at 1.3x load, {len(seeds)} seeds",
            allocated,
            "%",
            anchor - SLACK,
            at_most=False,
            others=others,
            details={"points over FGD": round(allocated - anchor, 3)},
        )
    )


def _mean(outcomes: Mapping[Trial, Outcome], trials: Sequence[Trial]) -> float:
    """Unallocated GPU %."""
    return fmean(100 - outcomes[trial].allocated_percent for trial in trials)
