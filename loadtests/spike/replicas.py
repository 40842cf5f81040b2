"""Watches a model's replicas while it is called: when there were how many, and what GPU time they took."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field

from loadtests.coldstart.admin import Admin
from loadtests.wire import CallFailed

POLL_S = 0.05
ON_GPU = ("starting", "ready", "draining")


@dataclass(slots=True)
class Watch:
    """``points``: (time.monotonic, ready, on a GPU) at each look."""

    admin: Admin
    model: str
    points: list[tuple[float, int, int]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(POLL_S):
            try:
                states = [str(replica["state"]) for replica in self.admin.replicas(self.model)]
            except CallFailed:
                continue  # the gap shows in the times
            on_gpu = sum(state in ON_GPU for state in states)
            self.points.append((time.monotonic(), states.count("ready"), on_gpu))

    def gpu_s(self, from_s: float, to_s: float) -> float:
        """Seconds of GPU time that replicas had between two times, each on a GPU's share of its own."""
        inside = [point for point in self.points if from_s <= point[0] <= to_s]
        return sum((later[0] - one[0]) * one[2] for one, later in itertools.pairwise(inside))

    def most_ready(self, from_s: float, to_s: float) -> int:
        return max((ready for at_s, ready, _ in self.points if from_s <= at_s <= to_s), default=0)

    def reached_s(self, count: int, from_s: float) -> float | None:
        """Seconds from ``from_s`` until so many were ready; None when they never were."""
        return next((at_s - from_s for at_s, ready, _ in self.points if at_s >= from_s and ready >= count), None)
