"""Runs every variant, with a progress bar for people who wait."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gateway.cli.errors import AskedWrongly
from gateway.cli.simulation.sweep import Variant, hardware_of, models_of, policies_of, seconds, whole
from gateway.cli.simulation.worlds import Hardware, build

if TYPE_CHECKING:
    from models.catalog.service import ServiceConfig
    from packers.decide import Policies
    from packers.sim import SimOptions, SimResult, SimWorld, Trace
    from packers.types import Model

Report = Callable[[str, int, int], None]  # label of the run, requests so far, of how many


@dataclass(frozen=True, slots=True)
class Setup:
    """What all runs share. ``trace_of``: the trace for a seed and a rate (None: as it is)."""

    trace_of: Callable[[int, float | None], Trace]
    models: Sequence[Model]
    hardware: Hardware
    policies: Policies
    options: SimOptions
    config: ServiceConfig | None = None


@dataclass(frozen=True, slots=True)
class Run:
    variant: Variant
    policies: Policies
    result: SimResult
    took_s: float


def run_all(setup: Setup, variants: Sequence[Variant], report: Report) -> list[Run]:
    """Raises AskedWrongly for a world that cannot be simulated."""
    return [_run(setup, variant, report) for variant in variants]


def _run(setup: Setup, variant: Variant, report: Report) -> Run:
    from packers.sim import SimError, TraceError, simulate

    seed_text, rate_text, slots_text = variant.get("seed"), variant.get("rate"), variant.get("slots")
    seed = setup.options.seed if seed_text is None else whole(seed_text, "seed")
    rate = None if rate_text is None else seconds(rate_text, "rate")
    options = replace(setup.options, seed=seed)
    if slots_text is not None:
        options = replace(options, slots=whole(slots_text, "slots"))
    policies = policies_of(variant, setup.policies)
    began_s = time.monotonic()
    try:
        trace = setup.trace_of(seed, rate)
        world = build(hardware_of(variant, setup.hardware), models_of(variant, setup.models), setup.config)
        _check_sizes(trace, world)
        result = simulate(
            trace, world, policies, options, progress=lambda done, total: report(variant.label, done, total)
        )
    except (SimError, TraceError, ValueError) as problem:
        raise AskedWrongly(
            f"{variant.label}: {problem}", code="invalid_simulation", cure="see: roundhouse simulate --help"
        ) from None
    return Run(variant, policies, result, time.monotonic() - began_s)


def _check_sizes(trace: Trace, world: SimWorld) -> None:
    """Raises SimError for a model that is called and larger than any GPU, even with its KV cache at the minimum."""
    from packers.explain import size
    from packers.sim import SimError

    called = trace.counts()
    largest_bytes = max((gpu.memory_bytes for gpu in world.gpus), default=0)
    for model in world.models:
        needs_bytes = model.footprint.gpu_min_bytes
        if called.get(model.id, 0) and needs_bytes > largest_bytes:
            raise SimError(
                f"model {model.id!r} needs {size(needs_bytes)} of GPU memory, the largest GPU has "
                f"{size(largest_bytes)}: none of its requests could be served"
            )


@contextmanager
def progress_bar(runs: int) -> Iterator[Report]:
    """On stderr, and only where somebody sees it."""
    if not sys.stderr.isatty():
        yield lambda label, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, object] = {}
        task = bar.add_task("simulating", total=None)

        def report(label: str, done: int, total: int) -> None:
            tasks.setdefault(label, None)
            bar.update(task, description=f"simulated run {len(tasks)}/{runs}: {label}", completed=done, total=total)

        yield report
