"""G5: what several workers do that one does not; G6: what ten thousand models cost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from loadtests.gateway import ours, traffic
from loadtests.gateway.bench import REPLICAS, Bench
from loadtests.gateway.callers import Callers, Seen, finish
from loadtests.gateway.comparison import Say
from loadtests.gateway.cores import Cores, most_workers, spread
from loadtests.gateway.fake_engine import fake_engine
from loadtests.gateway.ports import free_ports
from loadtests.gateway.problems import CannotMeasure
from loadtests.gateway.scene import Scene, started
from loadtests.policies.report import Figure

CONNECTIONS = 64
SHARE_PER_WORKER = 3.5 / 4
MODELS = 10_000
NO_CHANGE = 0.95  # within what these machines do from pass to pass


def workers_figures(bench: Bench, passes: int, say: Say) -> list[Figure]:
    """Raises CannotMeasure."""
    workers = most_workers(bench.available)
    if workers < 2:
        raise CannotMeasure("two workers need four cores: one each, as many for engines and callers")
    cores = spread(bench.available, workers)
    found: dict[int, list[float]] = {0: [], 1: [], workers: []}
    with engines(bench, cores) as ports:
        for number in range(passes):
            say(f"workers, pass {number + 1} of {passes}")
            found[0].append(together(bench, cores, ports[: len(cores.load)]))  # each caller to another engine
            for count in (1, workers):
                scene = replace(bench.scene(workers=count), engine_ports=tuple(ports), cores=cores.gateway[:count])
                with started(ours.subject(), scene) as running:
                    found[count].append(together(bench, cores, [running.port] * len(cores.load)))
    gains = [many / one for one, many in zip(found[1], found[workers], strict=True)]
    return [
        Figure("G5", f"{workers} workers", "requests a second over one worker's", median(gains), "x",
               SHARE_PER_WORKER * workers, False, {"1 worker /s": median(found[1]),
               f"{workers} workers /s": median(found[workers]), "no gateway /s": median(found[0])}, {"passes": gains})
    ]  # fmt: skip


@contextlib.contextmanager
def engines(bench: Bench, cores: Cores) -> Iterator[list[int]]:
    """One engine on each of its cores; all of their ports, in turn."""
    with contextlib.ExitStack() as stack:
        groups = []
        for core in cores.engine:
            ports = free_ports(max(2, REPLICAS // len(cores.engine)))
            log = bench.folder / f"engine-{core}.log"
            stack.enter_context(fake_engine(bench.programs.engine, ports, [core], log))
            groups.append(ports)
        yield [port for turn in zip(*groups, strict=True) for port in turn]


def together(bench: Bench, cores: Cores, ports: Sequence[int]) -> float:
    """Requests a second of callers on each of their cores."""
    with contextlib.ExitStack() as stack:
        under_way = [
            stack.enter_context(
                Callers(bench.programs.load, [core]).running(port, bench.files.plain, CONNECTIONS, bench.seconds)
            )
            for core, port in zip(cores.load, ports, strict=True)
        ]
        return sum(checked(finish(process, bench.seconds)).per_second for process in under_way)


def models_figures(bench: Bench, passes: int, say: Say) -> list[Figure]:
    """Raises CannotMeasure."""
    one, many = bench.folder / "one-model.requests", bench.folder / "many-models.requests"
    traffic.write_requests(one, traffic.many_models(bench.key, [traffic.model_name(0)] * MODELS))
    traffic.write_requests(many, traffic.many_models(bench.key, map(traffic.model_name, range(MODELS))))
    found: dict[int, list[float]] = {1: [], MODELS: []}
    for number in range(passes):
        say(f"models, pass {number + 1} of {passes}")
        for count, requests in ((1, one), (MODELS, many)):
            scene: Scene = bench.scene(models=count)
            with started(replace(ours.subject(), start_timeout_s=120.0), scene) as running:
                once_around(bench, running.port, requests)
                seen = bench.callers.run(running.port, requests, CONNECTIONS, bench.seconds)
                found[count].append(checked(seen).per_second)
    share = [large / small for small, large in zip(found[1], found[MODELS], strict=True)]
    name = f"requests a second with {MODELS} models x {REPLICAS} replicas over those with one"
    others = {"one /s": median(found[1]), "all /s": median(found[MODELS])}
    return [Figure("G6", "64 connections", name, median(share), "x", NO_CHANGE, False, others, {"passes": share})]


def once_around(bench: Bench, port: int, requests: Path) -> None:
    """Every request once and more: what a gateway does at the first sight of a model is no part of its pace."""
    done = 0
    while done < MODELS:
        seen = checked(bench.callers.run(port, requests, CONNECTIONS, bench.seconds))
        if not seen.done:
            raise CannotMeasure("no request was answered in time")
        done += seen.done


def checked(seen: Seen) -> Seen:
    """Raises CannotMeasure when requests failed: a rate of failures is no figure."""
    if seen.trouble:
        raise CannotMeasure(seen.trouble)
    return seen
