"""``python -m loadtests.policies.residency``: a line for each goal and each day or request file of the data folder.

Start-ups from host RAM take 1.0 s + bytes / 20 GB/s, from disk 8 s + bytes / 3 GB/s; GPUs have 80 GB.
E1: GenAI's requests with their model ids and execution times, on 4 and 2 GPUs; models as in ``zoo``, all fit in RAM.
E2 to E4: a day of ServeGen, 2.25 requests a second; the models are the 100 busiest clients of the file, the same every
day, and would fill 25 GPUs (LRU then delays about what was published: 8.5 to 9.9% on 8 GPUs, 3.2 to 3.4% on 12, 0.9% on
16, against 13.6, 3.9 and 0.54%). 8 GPUs with 400 GB of host RAM (E3 also 800 GB), E4 on 15 GPUs.

All of that is played by ``lean``. For comparison, ours and LRU are also played by the production decision
(``decided``): GenAI's first file, and the first hours of the first day of ServeGen.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from math import exp, log
from pathlib import Path

import numpy as np

from loadtests.policies.options import BadData, Options, complain, parse_options, read_lines
from loadtests.policies.report import Figure, Report
from loadtests.policies.residency.baselines import baseline
from loadtests.policies.residency.days import arrivals
from loadtests.policies.residency.decided import compared
from loadtests.policies.residency.lean import Lean, Outcome
from loadtests.policies.residency.zoo import GB, GENAI_SEEDS, genai_models, gpus_for_all, servegen_models
from packers.sim import Trace, TraceError
from packers.sim.formats import genai, servegen
from packers.types import Model

DAY_S = 86_400.0
MODELS, RATE_PER_S = 100, 2.25
SERVEGEN_GPUS, HOST_BYTES, LARGE_HOST_BYTES, FEW_GPUS = 8, 400 * GB, 800 * GB, 15
ALL_RAM_BYTES = 1 << 60
E1_LIMITS = {4: 3.0, 2: 8.6}
LONG_S = 5.0
COMPARED_S = 6 * 3600.0  # of the first day


@dataclass(frozen=True, slots=True)
class Item:
    """A request file, or a day of a ServeGen file, with one seed. ``goals``: those that are wanted of it.

    ``first``: of its kind, and played by the production decision, too.
    """

    path: Path
    goals: tuple[str, ...]
    seed: int
    day: int | None = None
    seeds_named: bool = False
    first: bool = False

    @property
    def name(self) -> str:
        name = self.path.name.removesuffix(".gz").removesuffix(".csv")
        if self.day is not None:
            name = f"day{self.day}"
        return f"{name}/seed{self.seed}" if self.seeds_named else name


@dataclass(frozen=True, slots=True)
class Result:
    """``ratios``: of delayed requests and load-seconds to Belady's, by policy, for the mean over days."""

    figures: tuple[Figure, ...]
    ratios: dict[str, tuple[float, float]]


def main(argv: Sequence[str] | None = None) -> int:
    options = parse_options("residency", argv)
    report = Report("residency")
    try:
        items = [*_request_files(options), *_days(options)]
        if not items:
            raise BadData("--only leaves nothing to run; goals are E1 to E4, items such as day0 or requests_days_0_14")
        ratios: list[dict[str, tuple[float, float]]] = []
        with ProcessPoolExecutor(options.jobs) as pool:
            for result in pool.map(play, items):
                for figure in result.figures:
                    report.add(figure)
                ratios += [result.ratios] if result.ratios else []
    except (BadData, TraceError) as problem:
        return complain(problem)
    for figure in _means(ratios):
        report.add(figure)
    report.write(options.results, data=str(options.data))
    return 0


def _wanted(options: Options, goals: Iterable[str], item: str) -> tuple[str, ...]:
    return tuple(goal for goal in goals if options.wants(goal, item))


def _request_files(options: Options) -> list[Item]:
    found: list[Item] = []
    for path in options.files("genai2026/requests_days_*.csv"):
        item = Item(path, (), 0)
        goals = _wanted(options, ("E1",), item.name)
        found += [Item(path, goals, 0, first=not found)] if goals else []
    return found


def _days(options: Options) -> list[Item]:
    found = []
    seeds = options.seeds or (0,)
    for path in options.files("servegen/clients_m_days_*.csv"):
        for day in _days_of(path):
            for seed in seeds:
                item = Item(path, (), seed, day, len(seeds) > 1)
                goals = _wanted(options, ("E2", "E3", "E4"), item.name)
                found += [Item(path, goals, seed, day, item.seeds_named)] if goals else []
    first = next((place for place, item in enumerate(found) if "E2" in item.goals), None)
    return [replace(item, first=place == first) for place, item in enumerate(found)]


def _days_of(path: Path) -> list[int]:
    clients = servegen.read(read_lines(path), path.name)
    days = {int(window.start_s // DAY_S) for one in clients.clients for window in one.windows if window.rate_per_s}
    return sorted(days)


def play(item: Item) -> Result:
    return play_requests(item) if item.day is None else play_day(item)


def run(name: str, models: Sequence[Model], trace: Trace, gpus: int, host: int) -> Outcome:
    at_s, model, service_s = trace.at_s.tolist(), trace.model.tolist(), trace.service_s.tolist()
    return Lean(models, gpus, host, baseline(name, models, at_s, model)).play(at_s, model, service_s)


def play_requests(item: Item) -> Result:
    trace = genai.read(read_lines(item.path), item.path.name)
    figures = []
    for gpus, limit in E1_LIMITS.items():
        delayed: dict[str, list[float]] = {}
        lean: dict[str, Outcome] = {}  # of the first seed
        for seed in GENAI_SEEDS:
            models = genai_models(trace.names, seed)
            for name in ("ours", "lru", "gdsf", "rate", "belady"):
                outcome = run(name, models, trace, gpus, ALL_RAM_BYTES)
                lean.setdefault(name, outcome)
                delayed.setdefault(name, []).append(outcome.delayed_percent)
        mean = {name: float(np.mean(found)) for name, found in delayed.items()}
        ours = mean.pop("ours")
        details = {"zoo_seeds": list(GENAI_SEEDS), "each": delayed}
        figures.append(Figure("E1", item.name, f"delayed on {gpus} GPUs", ours, "%", limit, True, mean, details))
        if item.first:
            models = genai_models(trace.names, GENAI_SEEDS[0])
            figures += compared("E1", item.name, models, trace, gpus, ALL_RAM_BYTES, lean)
    return Result(tuple(figures), {})


def play_day(item: Item) -> Result:
    models, trace = day_of(item)
    figures: list[Figure] = []
    ratios: dict[str, tuple[float, float]] = {}
    names = ["ours", "lru", "gdsf", "rate", "belady", "oracle"] if "E2" in item.goals else ["ours", "lru"]
    at_400 = {}
    if {"E2", "E3"} & set(item.goals):
        at_400 = {name: run(name, models, trace, SERVEGEN_GPUS, HOST_BYTES) for name in names}
    if "E2" in item.goals:
        figures += _e2(item, at_400, ratios)
    if "E3" in item.goals:
        at_800 = {name: run(name, models, trace, SERVEGEN_GPUS, LARGE_HOST_BYTES) for name in ("ours", "lru")}
        figures += _e3(item, at_400, at_800)
    if "E4" in item.goals:
        figures.append(_e4(item, models, trace))
    if item.first:
        figures += _compared(item, models, trace)
    return Result(tuple(figures), ratios)


def day_of(item: Item) -> tuple[list[Model], Trace]:
    day = item.day or 0
    begin_s, end_s = day * DAY_S, (day + 1) * DAY_S
    rng = np.random.default_rng([item.seed, day])
    clients = servegen.read(read_lines(item.path), item.path.name).busiest(MODELS)
    trace = arrivals(clients, begin_s, end_s, RATE_PER_S, rng)
    return servegen_models(trace.names, item.seed * 1000 + day), trace


def _e2(item: Item, outcomes: dict[str, Outcome], ratios: dict[str, tuple[float, float]]) -> list[Figure]:
    belady = outcomes["belady"]
    for name, one in outcomes.items():
        ratios[name] = one.delayed_percent / belady.delayed_percent, one.load_s / belady.load_s
    details = {
        name: {"delayed_percent": one.delayed_percent, "loads": one.loads, "from_disk": one.disk_loads}
        | {"ahead": one.ahead, "load_s": one.load_s}
        for name, one in outcomes.items()
    }
    others = {name: ratio for name, ratio in ratios.items() if name not in ("ours", "belady")}
    delayed = {name: ratio[0] for name, ratio in others.items()}
    loads = {name: ratio[1] for name, ratio in others.items()}
    ours = ratios["ours"]
    return [
        Figure("E2", item.name, "delayed over Belady", ours[0], "x", None, True, delayed, details),
        Figure("E2", item.name, "load-seconds over Belady", ours[1], "x", None, True, loads),
    ]


def _e3(item: Item, at_400: dict[str, Outcome], at_800: dict[str, Outcome]) -> list[Figure]:
    def within(outcomes: dict[str, Outcome]) -> dict[str, float]:
        return {name: one.within_percent(LONG_S) for name, one in outcomes.items()}

    large, small = within(at_800), within(at_400)
    p99 = {name: one.p99_s for name, one in at_800.items()}
    rows = [
        ("within 5 s, 800 GB", large, "%", 99.5),
        ("p99 wait, 800 GB", p99, "s", 2.9),
        ("within 5 s, 400 GB", small, "%", 97.0),
    ]
    return [
        Figure("E3", item.name, name, values.pop("ours"), unit, limit, unit == "s", values)
        for name, values, unit, limit in rows
    ]


def _e4(item: Item, models: Sequence[Model], trace: Trace) -> Figure:
    found = {name: run(name, models, trace, FEW_GPUS, HOST_BYTES).delayed_percent for name in ("ours", "lru", "oracle")}
    ours = found.pop("ours")
    others = found | {"GPUs for all": float(gpus_for_all(models))}
    return Figure("E4", item.name, f"delayed on {FEW_GPUS} GPUs", ours, "%", 1.0, True, others)


def _compared(item: Item, models: Sequence[Model], trace: Trace) -> list[Figure]:
    begins = trace.clip(0.0, COMPARED_S)
    lean = {name: run(name, models, begins, SERVEGEN_GPUS, HOST_BYTES) for name in ("ours", "lru")}
    name = f"{item.name}, first {COMPARED_S / 3600:g} h"
    return compared("E2", name, models, begins, SERVEGEN_GPUS, HOST_BYTES, lean)


def _means(ratios: Sequence[dict[str, tuple[float, float]]]) -> list[Figure]:
    """Geometric, over all days."""
    if not ratios:
        return []
    mean = {
        name: tuple(exp(float(np.mean([log(max(1e-9, one[name][which])) for one in ratios]))) for which in (0, 1))
        for name in ratios[0]
    }
    others = [{name: pair[which] for name, pair in mean.items() if name not in ("ours", "belady")} for which in (0, 1)]
    return [
        Figure("E2", "all days", "delayed over Belady", mean["ours"][0], "x", 0.97, True, others[0]),
        Figure("E2", "all days", "load-seconds over Belady", mean["ours"][1], "x", 1.0, True, others[1]),
    ]


if __name__ == "__main__":
    sys.exit(main())
