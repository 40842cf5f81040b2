"""Who held how much of each GPU when, in a bounded number of points."""

from __future__ import annotations

from collections.abc import Iterable

from packers.sim.result import MemoryPoint
from packers.types import GpuId, ReplicaId

FIRST_STEP_S = 0.001


class Timeline:
    """When there are too many points, time is cut into steps twice as long, until they are few enough: of a replica's
    points on a GPU within one step the last one stays. Each series stays exact at the ends of the steps."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._points: list[MemoryPoint] = []
        self._step_s = 0.0

    def add(self, point: MemoryPoint) -> None:
        if not self._limit:
            return
        self._points.append(point)
        if len(self._points) >= 2 * self._limit:
            self._thin()

    def points(self) -> tuple[MemoryPoint, ...]:
        if len(self._points) > self._limit:
            self._thin()
        return tuple(self._points)

    def _thin(self) -> None:
        self._step_s = self._step_s or FIRST_STEP_S
        while True:
            last: dict[tuple[int, GpuId, ReplicaId], MemoryPoint] = {}
            for point in self._points:
                key = (int(point.at_s / self._step_s), point.gpu, point.replica)
                last.pop(key, None)
                last[key] = point
            self._points = _without_repeats(last.values())
            if len(self._points) <= self._limit:
                return
            if self._step_s > self._points[-1].at_s:  # more GPUs and replicas than points
                self._points = self._points[: self._limit]
                return
            self._step_s *= 2


def _without_repeats(points: Iterable[MemoryPoint]) -> list[MemoryPoint]:
    """Without points that change nothing, and replicas that came and went within one step."""
    now: dict[tuple[GpuId, ReplicaId], tuple[str, int]] = {}
    kept = []
    for point in sorted(points, key=lambda one: one.at_s):
        key, what = (point.gpu, point.replica), (point.state.value, point.gpu_bytes)
        if now.get(key) == what or (key not in now and not point.gpu_bytes):
            continue
        now[key] = what
        kept.append(point)
    return kept
