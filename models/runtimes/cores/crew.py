"""The threads of one engine, from step to step."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from models.runtimes.cores import openmp
from models.runtimes.cores.board import LONGEST_S, Seat, joined
from models.runtimes.cores.machine import usable_cores
from models.runtimes.cores.policy import share

STAYS_BUSY_S = 0.1  # after a step, for the next mostly follows at once
LOOK_EVERY_S = 0.015  # at what the others want
OPERATORS_CHOICE = "OMP_NUM_THREADS"


def own_crew() -> Crew | None:
    """Of an engine that computes on the CPU. None where the operator has set a number of threads, which then holds."""
    if OPERATORS_CHOICE in os.environ:
        return None
    openmp.libraries()
    return Crew(Seat(joined()), usable_cores(), openmp.set_threads)


class Crew:
    """How many threads a thread computes its steps with. ``set_threads`` sets them, for the thread that calls."""

    def __init__(
        self, seat: Seat, cores: int, set_threads: Callable[[int], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.threads = 0  # none set yet
        self._seat = seat
        self._cores = cores
        self._set_threads = set_threads
        self._clock = clock
        self._want = 0
        self._look_at_s = 0.0

    @contextmanager
    def step(self, want: int) -> Iterator[None]:
        """A step for which so many threads would be good; in the thread that computes it."""
        self._begin(want)
        try:
            yield
        finally:
            now_s = self._clock()
            self._seat.say(self._want, now_s, now_s + STAYS_BUSY_S)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """A part of a step, with all the threads that the step wants, whatever others do meanwhile."""
        short = self.threads < self._want
        if short:
            self._set_threads(self._want)
        try:
            yield
        finally:
            if short:
                self._set_threads(self.threads)

    def _begin(self, want: int) -> None:
        now_s = self._clock()
        want = min(want, self._cores)
        seated = self._seat.say(want, now_s, now_s + LONGEST_S)
        if want != self._want or now_s >= self._look_at_s:
            self._want, self._look_at_s = want, now_s + LOOK_EVERY_S
            fair = share(want, self._seat.others(now_s), self._cores) if want > 1 and seated else 1
            if fair != self.threads:
                self.threads = fair
                self._set_threads(fair)
