"""The GPUs of a large cluster as columns of numbers, so that the few worth a close look are found without a loop.

Rows are the GPUs by id. Only rows of GPUs that something has happened to are worked out anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from packers.index import Index
from packers.limits import Limits
from packers.scaling import last_use_s
from packers.types import Gpu, GpuId, Replica, ReplicaState

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
VICTIMS = 8  # idle replicas of a GPU that are counted one by one; the rest only in their sum
LATEST_S = 4e9  # beyond any clock: one step of priority weighs more than any difference in time


class Columns:
    """``freed``: bytes that come back when the first k idle replicas go, cheapest first; ``rank``, ``use_s``: the
    highest priority and the latest use among those k."""

    def __init__(self) -> None:
        self.gpus: tuple[Gpu, ...] = ()
        self.row: dict[GpuId, int] = {}
        self.memory = self.now = self.soon = self.idle = self.pinned = np.zeros(0, np.int64)
        self.cordoned = np.zeros(0, np.bool_)
        self.freed = np.zeros((0, VICTIMS), np.int64)
        self.rank = np.zeros((0, VICTIMS), np.int64)
        self.use_s = np.zeros((0, VICTIMS))

    def refresh(self, index: Index, priority: Callable[[Replica], int], touched: set[GpuId]) -> None:
        """``touched``: the GPUs of which something has changed since the last time."""
        if self.gpus is not index.order:
            self._resize(index.order)
            touched = set(self.row)
        for gpu in touched:
            row = self.row[gpu]
            self.now[row] = index.now.gpu[gpu]
            self.soon[row] = index.soon.gpu[gpu]
            self.idle[row] = index.idle_bytes[gpu]
            self.pinned[row] = index.pinned_bytes[gpu]
            self._count(row, index, priority)

    def _resize(self, gpus: tuple[Gpu, ...]) -> None:
        self.gpus = gpus
        self.row = {gpu.id: row for row, gpu in enumerate(gpus)}
        self.memory = np.array([gpu.memory_bytes for gpu in gpus], np.int64)
        self.cordoned = np.array([gpu.shut for gpu in gpus], np.bool_)
        self.now, self.soon, self.idle, self.pinned = (np.zeros(len(gpus), np.int64) for _ in range(4))
        self.freed, self.rank = (np.zeros((len(gpus), VICTIMS), np.int64) for _ in range(2))
        self.use_s = np.zeros((len(gpus), VICTIMS))

    def _count(self, row: int, index: Index, priority: Callable[[Replica], int]) -> None:
        idle = [
            (one.state is ReplicaState.ASLEEP, priority(one), last_use_s(one), index.held(one.id).idle_bytes)
            for one in index.on_gpu(self.gpus[row].id)
            if index.held(one.id).idle_bytes
        ]
        idle.sort()
        freed, rank, use_s = 0, -(1 << 30), 0.0
        for place in range(VICTIMS):
            if place < len(idle):
                _, mine, used_s, idle_bytes = idle[place]
                freed, rank, use_s = freed + idle_bytes, max(rank, mine), max(use_s, used_s)
            self.freed[row, place], self.rank[row, place], self.use_s[row, place] = freed, rank, use_s

    def free(self) -> Ints:
        return np.minimum(self.now, self.soon)

    def needs(self, gpu_bytes: int, wakes: dict[GpuId, int]) -> Ints:
        """Bytes that the replica takes on each GPU: fewer where a sleeping one would be woken."""
        needs = np.full(len(self.gpus), gpu_bytes, np.int64)
        for gpu, wake_bytes in wakes.items():
            needs[self.row[gpu]] = wake_bytes
        return needs

    def open(self, where: Limits) -> Bools:
        """Where the model may go at all."""
        if where.none:
            return ~self.cordoned
        return np.array([where.refusal(gpu) is None for gpu in self.gpus], np.bool_)

    def likely(
        self, gpu_bytes: int, wakes: dict[GpuId, int], where: Limits, closed: set[GpuId], step: int
    ) -> Iterator[list[Gpu]]:
        """The GPUs where evictions may make room, ``step`` at a time: those first where the lowest in priority, then
        the longest unused would have to go."""
        needs = self.needs(gpu_bytes, wakes)
        possible = (self.soon + self.idle >= needs) & (self.memory >= needs) & self.open(where)
        for gpu in closed:
            possible[self.row[gpu]] = False
        rows = np.flatnonzero(possible)
        if not len(rows):
            return
        short = (needs - self.soon)[rows]
        last = np.minimum((self.freed[rows] < short[:, None]).sum(1), VICTIMS - 1)
        starts = np.ones(len(self.gpus))
        starts[[self.row[gpu] for gpu in wakes]] = 0
        key = (2.0 * self.rank[rows, last] + starts[rows]) * LATEST_S + self.use_s[rows, last]
        if len(rows) > step:
            first = np.argpartition(key, step)[:step]
            yield self._at(rows[first[np.lexsort((rows[first], key[first]))]])
        order = rows[np.lexsort((rows, key))]
        for start in range(step if len(rows) > step else 0, len(order), step):
            yield self._at(order[start : start + step])

    def closest(self, gpu_bytes: int, wakes: dict[GpuId, int], where: Limits) -> Gpu | None:
        """Where the least is missing; one not barred by pinned replicas first. None where all are too small."""
        needs = self.needs(gpu_bytes, wakes)
        rows = np.flatnonzero((self.memory >= needs) & self.open(where))
        if not len(rows):
            return None
        barred = (self.pinned + needs > self.memory)[rows]
        rows = rows[~barred] if not barred.all() else rows
        return self.gpus[int(rows[np.argmin((needs - self.soon)[rows])])]

    def shortlist(self, gpu_bytes: int) -> list[Gpu]:
        """The GPUs that tell why there is no room: the largest one, and the one that comes closest of those it fits."""
        free = np.where((self.memory >= gpu_bytes) & ~self.cordoned, self.free(), -1)
        rows = {int(np.argmax(self.memory)), int(np.argmax(free))}
        return self._at(sorted(rows))

    def _at(self, rows: Ints | list[int]) -> list[Gpu]:
        return [self.gpus[row] for row in rows]
