"""Goal P6: models leave and arrive, few of them may move: how many GPUs are in use over the least that could do?

Each epoch so many models leave and as many arrive; the arrivals, largest first, go where the placement score says, and
then ``packers.defrag`` may move so many of those that are there. A move's substitute has to fit before the old one
leaves. Counted after that: GPUs in use over the bound L2, which no packing from scratch can beat.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from loadtests.policies.options import Options
from loadtests.policies.packing.churn_world import Cluster, Mix, draw, l2_bound
from loadtests.policies.report import Figure, Report
from packers.defrag.moves import Budget
from packers.defrag.plan import moves
from packers.types import Footprint, ModelId

GOAL = "P6"
SEEDS = (1, 2, 3, 4, 5)
LIMITS = {0: 9.0, 5: 2.5}  # moves per 20 changes -> percent over the bound
BUDGETS = (0, 2, 5, 10)
SPARE = 1.6  # GPUs that there are, over what the models need at first

MIXES = (
    Mix("300-models/kv-0.5-16GiB", "kv-0.5-16GiB"),
    Mix("300-models/kv-by-size", "kv-by-size"),
    Mix("300-models/kv-1-2-4-8GiB", "kv-1-2-4-8GiB"),
)


@dataclass(frozen=True, slots=True)
class Case:
    mix: Mix
    seed: int
    moves: int
    placement: str = "ours"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Means over the epochs that count, in percent over the bound."""

    over: float
    repacked: float  # from scratch at every epoch, first-fit decreasing
    gpus: float
    moves: float


def run(options: Options, report: Report) -> None:
    mixes = [mix for mix in MIXES if options.wants(GOAL, mix.name)]
    seeds = options.seeds or SEEDS
    cases = [Case(mix, seed, budget) for mix in mixes for seed in seeds for budget in BUDGETS]
    cases += [Case(mix, seed, 0, "best-fit") for mix in mixes for seed in seeds]
    if not cases:
        return
    with ProcessPoolExecutor(options.jobs) as pool:
        outcomes = dict(zip(cases, pool.map(play, cases), strict=True))
    for mix in mixes:
        best_fit = [outcomes[Case(mix, seed, 0, "best-fit")] for seed in seeds]
        for budget in BUDGETS:
            report.add(_figure(mix, budget, [outcomes[Case(mix, seed, budget)] for seed in seeds], best_fit))


def _figure(mix: Mix, budget: int, outcomes: list[Outcome], best_fit: list[Outcome]) -> Figure:
    return Figure(
        GOAL,
        f"{mix.name}, at most {budget} moves per {2 * mix.changes} changes",
        "GPUs over L2",
        float(np.mean([one.over for one in outcomes])),
        "%",
        LIMITS.get(budget),
        others={
            "best-fit, no moves": float(np.mean([one.over for one in best_fit])),
            "repacked from scratch": float(np.mean([one.repacked for one in outcomes])),
            "worst seed": max(one.over for one in outcomes),
        },
        details={
            "gpus_in_use": float(np.mean([one.gpus for one in outcomes])),
            "moves_per_epoch": float(np.mean([one.moves for one in outcomes])),
            "by_seed": [one.over for one in outcomes],
        },
    )


def play(case: Case) -> Outcome:
    """One run, deterministic for its case."""
    mix = case.mix
    rng = np.random.default_rng([case.seed, mix.models, mix.changes])
    first = [draw(rng, mix) for _ in range(mix.models)]
    least = l2_bound(np.array([one.gpu_bytes for one in first], np.int64), mix.gpu_bytes)
    cluster = Cluster(mix, case.placement, int(SPARE * least) + 8)
    there = _arrive(cluster, first, 0)
    over, repacked, gpus, moved = [], [], [], 0
    for epoch in range(mix.epochs):
        for place in sorted(rng.choice(len(there), mix.changes, replace=False), reverse=True):
            cluster.depart(there.pop(int(place)))
        came = mix.models + epoch * mix.changes
        there += _arrive(cluster, [draw(rng, mix) for _ in range(mix.changes)], came)
        made = moves(cluster.state, 1e6, Budget(moves=case.moves))
        for move in made:
            cluster.make(move)
        if epoch >= mix.warm_up:
            sizes = cluster.sizes()
            bound = l2_bound(sizes, mix.gpu_bytes)
            moved += len(made)
            gpus.append(cluster.in_use())
            over.append(100 * (gpus[-1] / bound - 1))
            repacked.append(100 * (_first_fit_decreasing(sizes, mix.gpu_bytes) / bound - 1))
    return Outcome(float(np.mean(over)), float(np.mean(repacked)), float(np.mean(gpus)), moved / len(gpus))


def _arrive(cluster: Cluster, footprints: list[Footprint], number: int) -> list[ModelId]:
    """Largest first: they are all known before the first is placed."""
    names = [ModelId(f"m{number + place:06}") for place in range(len(footprints))]
    for name, footprint in sorted(zip(names, footprints, strict=True), key=lambda one: -one[1].gpu_bytes):
        cluster.arrive(name, footprint)
    return names


def _first_fit_decreasing(sizes: np.typing.NDArray[np.int64], capacity: int) -> int:
    free = np.full(len(sizes), capacity, np.int64)
    for one in np.sort(sizes)[::-1]:
        free[int(np.argmax(free >= one))] -= one
    return int((free < capacity).sum())
