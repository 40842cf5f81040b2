"""P3 to P5: static packing against its own lower bounds and known optima, first-fit decreasing beside it."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np

from loadtests.policies.options import Options
from loadtests.policies.packing import zoo
from loadtests.policies.packing.first_fit import first_fit_decreasing, nodes_first_fit_decreasing
from loadtests.policies.report import Figure, Report
from packers.static.lines.line import Line
from packers.static.lines.solve import pack_line
from packers.static.problem import GpuSize, Item
from packers.static.solve import pack
from packers.types import ModelId

SEEDS = (1, 2, 3, 4, 5)
TRIPLET_BINS = 333
TRIPLET_CAPACITIES = (1000, 1280, 10_000, 100_000)


@dataclass(frozen=True, slots=True)
class Outcome:
    """``bins`` in ``wall_s``, where at least ``at_least`` are needed; first-fit decreasing takes ``baseline``."""

    bins: int
    at_least: int
    baseline: int
    wall_s: float

    @property
    def over(self) -> int:
        return self.bins - self.at_least

    @property
    def over_percent(self) -> float:
        return 100.0 * (self.bins / self.at_least - 1.0)

    @property
    def baseline_percent(self) -> float:
        return 100.0 * (self.baseline / self.at_least - 1.0)


@dataclass(frozen=True, slots=True)
class Case:
    """``run`` with ``arguments`` and a seed. ``limit``: of the median, in bins where ``in_bins``, else in percent."""

    goal: str
    item: str
    run: Callable[..., Outcome]
    arguments: tuple[object, ...]
    limit: float
    limit_s: float | None
    in_bins: bool = False


def cases() -> list[Case]:
    found: list[Case] = []
    for gib, few in product(zoo.GPU_GIB, (False, True)):
        name = f"{gib}gib-{'few-sizes' if few else 'any-sizes'}"
        found.append(Case("P3", f"{name}-1000", one_size, (1000, gib, few), 1, 5.0, in_bins=True))
        found.append(Case("P3", f"{name}-10000", one_size, (10_000, gib, few), 0.1, 2.0))
    for capacity in TRIPLET_CAPACITIES:
        found.append(Case("P4", f"triplets-{capacity}", exact_triples, (capacity,), 1.0, 10.0))
    for gib, how in product(zoo.GPU_GIB, ("light", "steps", "uniform")):
        found.append(Case("P5", f"{gib}gib-compute-{how}", two_sizes, (10_000, gib, how), 0.4, 2.0))
    for gib in zoo.GPU_GIB:
        found.append(Case("P5", f"{gib}gib-groups", on_nodes, (2000, gib), 1.0, None))
    return found


def run(options: Options, report: Report) -> None:
    wanted = [case for case in cases() if options.wants(case.goal, case.item)]
    seeds = options.seeds or SEEDS
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as workers:
        waiting = [(case, [workers.submit(case.run, *case.arguments, seed) for seed in seeds]) for case in wanted]
        for case, futures in waiting:
            _report(case, seeds, [future.result() for future in futures], report)


def one_size(replicas: int, gib: int, few_sizes: bool, seed: int) -> Outcome:
    return _line(zoo.zoo(replicas, gib, seed, few_sizes).tolist(), zoo.units(gib))


def exact_triples(capacity: int, seed: int) -> Outcome:
    return _line(zoo.triplets(TRIPLET_BINS, capacity, seed).tolist(), capacity)


def two_sizes(replicas: int, gib: int, how: str, seed: int) -> Outcome:
    memory = (zoo.zoo(replicas, gib, seed, few_sizes=False) * zoo.UNIT).tolist()
    compute = zoo.compute(replicas, seed, how).tolist()
    items = [
        Item(ModelId(f"m{at}"), size, compute_milli=milli)
        for at, (size, milli) in enumerate(zip(memory, compute, strict=True))
    ]
    gpu = GpuSize(gib * zoo.GIB)
    started = time.perf_counter()
    answer = pack(items, gpu)
    wall_s = time.perf_counter() - started
    needs = np.array([memory, compute]).T
    baseline = first_fit_decreasing(needs, np.array([gpu.memory_bytes, gpu.compute_milli]))
    return Outcome(answer.gpus, answer.gpus_at_least, baseline, wall_s)


def on_nodes(replicas: int, gib: int, seed: int) -> Outcome:
    items = zoo.groups(replicas, gib, seed)
    started = time.perf_counter()
    answer = pack(items, zoo.gpu(gib), 8)
    wall_s = time.perf_counter() - started
    return Outcome(answer.nodes, answer.nodes_at_least, nodes_first_fit_decreasing(items, gib * zoo.GIB, 8), wall_s)


def _line(sizes: list[int], capacity: int) -> Outcome:
    started = time.perf_counter()
    packing = pack_line(Line.of(sizes, capacity))
    wall_s = time.perf_counter() - started
    baseline = first_fit_decreasing(np.array(sizes)[:, None], np.array([capacity]))
    return Outcome(packing.bins, packing.at_least, baseline, wall_s)


def _report(case: Case, seeds: Sequence[int], outcomes: Sequence[Outcome], report: Report) -> None:
    over = [float(each.over) if case.in_bins else each.over_percent for each in outcomes]
    base = [float(each.baseline - each.at_least) if case.in_bins else each.baseline_percent for each in outcomes]
    median_s = statistics.median(each.wall_s for each in outcomes)
    report.add(
        Figure(
            goal=case.goal,
            item=case.item,
            name="over the bound",
            value=statistics.median(over),
            unit="bins" if case.in_bins else "%",
            limit=case.limit,
            others={"worst": max(over), "FFD": statistics.median(base), "seconds": median_s},
            details={
                "seeds": list(seeds),
                "bins": [each.bins for each in outcomes],
                "at_least": [each.at_least for each in outcomes],
                "ffd_bins": [each.baseline for each in outcomes],
                "wall_s": [round(each.wall_s, 3) for each in outcomes],
            },
        )
    )
    if case.limit_s is not None:
        report.add(Figure(case.goal, case.item, "time", median_s, "s", limit=case.limit_s))
