"""Which cores whom: a gateway must not share its core with those who measure it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from loadtests.gateway.problems import CannotMeasure


@dataclass(frozen=True, slots=True)
class Cores:
    gateway: tuple[int, ...]
    engine: tuple[int, ...]
    load: tuple[int, ...]


def one_core(available: Collection[int]) -> Cores:
    """The gateway on one; engine and callers together on another. Raises CannotMeasure."""
    if len(available) < 2:
        raise CannotMeasure("at least two cores are needed: one for the gateway, one for engine and callers")
    first, second = sorted(available)[:2]
    return Cores((first,), (second,), (second,))


def spread(available: Collection[int], workers: int) -> Cores:
    """One core per worker; an engine and callers together on each of the others. Raises CannotMeasure."""
    ordered = tuple(sorted(available))
    rest = ordered[workers:]
    if len(rest) < workers:
        raise CannotMeasure(f"{workers} workers need {2 * workers} cores: one each, as many for engines and callers")
    return Cores(ordered[:workers], rest, rest)


def most_workers(available: Collection[int]) -> int:
    """How many of at most 4 workers leave as many cores to engines and callers."""
    return max(1, min(4, len(available) // 2))


@contextlib.contextmanager
def children_on(cores: Collection[int]) -> Iterator[None]:
    """Processes started inside run on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
