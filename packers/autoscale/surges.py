"""What surges of traffic ask for, learned while they come: a table of what would have been late.

A request can wait for ``wait_s`` without being late, so the replica that serves it must have been ordered when it came,
less the *lead*: start-up time - ``wait_s``. The table has a row for what was *in use* then (the replicas that the
requests of the last moments would have kept in use had nobody to wait: an M/G/infinity queue), a column for each number
of replicas, and counts the requests that would have been late had that many served all along. One virtual queue per
column says so without looking back: fluid, with n in the system it serves min(n, slots) at a time (a network-calculus
backlog; Le Boudec and Thiran, Network Calculus, 2001, section 1.3).

From it follows the cheapest rule of the form: ``idle`` replicas while nothing is in use, and else at least ``busy`` and
at least ``growth`` times those in use, with which at most the wished share is late; but no request is kept from being
late for more GPU-seconds than ``late_price_s`` (a newsvendor's critical ratio; in multi-item form Everett, Operations
Research 11(3), 1963). Three numbers, as an hour has too few surges for more.

Before much was seen, requests are taken to be late as after a growth with a Pareto tail (square law) for which
``PRIOR_GROWTH`` is just enough. That counts as ``PRIOR_BLOCKS`` leads of busy traffic, times the burstiness (squared
coefficient of variation): the number of samples that a mean needs for a given precision grows with it.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from packers.load import HALF_LIFE_S, Aim, Reserve

Floats = NDArray[np.float64]
# Columns: every count up to 16, then about a fifth more each time.
COUNTS: Floats = np.array(
    (*range(17), 19, 22, 26, 31, 37, 44, 53, 64, 77, 92, 110, 132, 158, 190, 228, 274, 328, 394), dtype=np.float64
)
GROWTHS: Floats = np.array((1, 1.1, 1.2, 1.35, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, 6, 8), dtype=np.float64)
# Rows: nothing in use, then steps of a quarter.
USE_MIN, USE_STEP, ROWS = 0.02, 1.25, 45
USES: Floats = np.array([0.0] + [USE_MIN * USE_STEP**row for row in range(ROWS - 1)])
PRIOR_GROWTH, PRIOR_BLOCKS, BURSTINESS_MAX, PRIOR_S = 3.5, 15.0, 9.0, 60.0
RELEARN_S = 5.0
# _NEED[busy, growth, row]: which column the rule asks for.
_NEED = np.searchsorted(
    COUNTS, np.minimum(np.maximum.outer(COUNTS, np.ceil(np.outer(GROWTHS, USES) - 1e-9)), COUNTS[-1])
)
_NOT_BELOW_IDLE = np.triu(np.ones((len(COUNTS), len(COUNTS)), dtype=bool))[:, :, None]


def hold_s(start_s: float) -> float:
    """For how long what was in use counts on: half of what a start costs, and two ticks of a slow controller at least.

    Renting and buying break even at one start (Karlin et al., Competitive Snoopy Caching, 1988). Less is kept here, as
    what is in use falls by itself in about a service time, and the idle reserve stays.
    """
    return max(2.0, start_s / 2)


def row_of(in_use: float) -> int:
    if in_use < USE_MIN:
        return 0
    return min(ROWS - 1, math.ceil(math.log(in_use / USE_MIN) / math.log(USE_STEP) - 1e-9) + 1)


class Surges:
    """Counts what comes in steps of time; owned by a LoadTracker."""

    def __init__(self, aim: Aim, now_s: float) -> None:
        self.now_s = self._learned_s = self._forgot_s = now_s
        self.offered = 0.0
        self._came = 0
        self._steps = self._busy_steps = self._sum = self._sum2 = 0.0
        self._requests = self._onsets = 0.0
        self._seconds: Floats = np.zeros(ROWS)
        self._late: Floats = np.zeros((ROWS, len(COUNTS)))
        self._queued: Floats = np.zeros(len(COUNTS) - 1)  # requests in the system, per column from one replica on
        self._peaks: deque[tuple[float, float]] = deque()  # offered, falling, within the hold
        self._rows: deque[tuple[float, int]] = deque([(now_s, 0)])  # which row began when
        self._row_then = 0  # the row a lead ago
        self._reserve = Reserve(growth=PRIOR_GROWTH)
        self._dirty = False
        self.step_s = min(0.5, max(0.1, aim.wait_s / 4))  # for good: counts of steps are kept
        self.retarget(aim)

    def retarget(self, aim: Aim) -> None:
        """Keeps what was counted: with a start-up time that is not too different it still says most of it."""
        self.aim = aim
        self._lead_s = max(0.0, aim.start_s - aim.wait_s)
        self._hold_s = hold_s(aim.start_s)
        self._slots: Floats = COUNTS[1:] * aim.slots

    @property
    def peak_offered(self) -> float:
        return self._peaks[0][1] if self._peaks else 0.0

    @property
    def burstiness(self) -> float:
        """Squared coefficient of variation of what is offered; begins at 1, which counts as a minute."""
        if not self._sum:
            return 1.0
        mean = self._sum / self._steps
        seen = max(0.0, self._sum2 / self._steps - mean * mean) / (mean * mean)
        prior = PRIOR_S / self.step_s
        return (seen * self._steps + prior) / (self._steps + prior)

    def arrive(self, count: int) -> None:
        self._came += count
        self._dirty = True

    def advance(self, now_s: float, service_s: float) -> None:
        while now_s >= self.now_s + self.step_s:
            if self._quiet():
                steps = math.floor((now_s - self.now_s) / self.step_s + 1e-9)
                self._rest(max(1, steps))
            else:
                self._step(service_s)

    def reserve(self, now_s: float) -> Reserve:
        if self._dirty and self._requests and now_s - self._learned_s >= RELEARN_S:
            self._learned_s, self._dirty = now_s, False
            self._forget(now_s)
            self._reserve = self._learn()
        return self._reserve

    def _quiet(self) -> bool:
        return not self._came and self.peak_offered == 0.0 and not self.offered and self._row_then == 0

    def _rest(self, steps: int) -> None:
        self.now_s += steps * self.step_s
        self._steps += steps
        self._seconds[0] += steps * self.step_s
        self._queued[:] = 0.0
        self._peaks.clear()

    def _step(self, service_s: float) -> None:
        step_s, aim = self.step_s, self.aim
        self.now_s += step_s
        come, self._came = self._came, 0
        stays = math.exp(-step_s / service_s)
        self._queued -= np.minimum(self._queued * (1 - stays), self._slots * (step_s / service_s))
        while self._rows and self._rows[0][0] <= self.now_s - self._lead_s:
            self._row_then = self._rows.popleft()[1]
        if come:
            self._count(come, service_s)
        self.offered = self.offered * stays + come * (1 - stays) * service_s / step_s
        if self.offered < USE_MIN / 4:
            self.offered = 0.0
        in_use = self.offered / aim.slots
        self._steps += 1
        self._busy_steps += in_use > USE_MIN or come > 0
        self._sum += in_use
        self._sum2 += in_use * in_use
        self._remember()

    def _remember(self) -> None:
        peaks = self._peaks
        while peaks and peaks[-1][1] <= self.offered:
            peaks.pop()
        peaks.append((self.now_s, self.offered))
        while peaks[0][0] < self.now_s - self._hold_s:
            peaks.popleft()
        row = row_of(self.peak_offered / self.aim.slots)
        latest = self._rows[-1][1] if self._rows else self._row_then
        if row != latest:
            self._rows.append((self.now_s, row))
            self._onsets += latest == 0
        self._seconds[row] += self.step_s

    def _count(self, come: int, service_s: float) -> None:
        self._queued += come
        last_wait_s = (self._queued / self._slots - 1) * service_s
        share = (last_wait_s - self.aim.wait_s) * self._slots / (come * service_s)
        self._late[self._row_then, 1:] += come * np.clip(share, 0.0, 1.0)
        if self.aim.start_s > self.aim.wait_s:
            self._late[self._row_then, 0] += come
        self._requests += come

    def _forget(self, now_s: float) -> None:
        keep = 0.5 ** ((now_s - self._forgot_s) / HALF_LIFE_S)
        self._forgot_s = now_s
        self._seconds *= keep
        self._late *= keep
        for name in ("_steps", "_busy_steps", "_sum", "_sum2", "_requests", "_onsets"):
            setattr(self, name, getattr(self, name) * keep)

    def _learn(self) -> Reserve:
        """Cost and late requests of every rule (idle, busy, growth), and the cheapest one that is good enough."""
        rows = np.flatnonzero(self._seconds[1:] > 0) + 1
        need = _NEED[:, :, rows]
        late = self._late[rows, need].sum(axis=2)
        cost = (self._seconds[rows] * COUNTS[need]).sum(axis=2)
        late = late[None] + self._late[0][:, None, None]
        cost = cost[None] + (self._seconds[0] * COUNTS)[:, None, None]
        cost = np.where(_NOT_BELOW_IDLE, cost, np.inf)
        share = self.aim.late_share
        blocks = max(1.0, self._busy_steps * self.step_s / max(self.aim.start_s, self.step_s))
        unseen = PRIOR_BLOCKS * min(self.burstiness, BURSTINESS_MAX) * self._requests / blocks
        late = late + unseen * np.minimum(1.0, share * (PRIOR_GROWTH / GROWTHS) ** 2)
        requests = self._requests + unseen
        good = np.where(late <= share * requests, cost, np.inf)
        cheapest = np.argmin(good)
        thrifty = np.argmin(cost + self.aim.late_price_s * late)
        best = cheapest if good.flat[cheapest] <= cost.flat[thrifty] else thrifty
        idle, busy, growth = np.unravel_index(best, cost.shape)
        saved = float(self._late[0, 0] - self._late[0, idle]) / max(1.0, self._onsets)
        return Reserve(
            int(COUNTS[idle]), int(COUNTS[busy]), float(GROWTHS[growth]), saved, float(late.flat[best] / requests)
        )
