"""One model's replicas in virtual time, scaled by the very policies that production calls.

Requests go to the ready replica with the least in flight that has a free slot, as the gateways send them, or wait in
one queue, first come first served. What is in flight and held is reported every 0.1 s at least. Every ``tick_s`` the
policy is asked; replicas that it wants more are started at once, ones that it wants fewer go when they have been idle
for as long as it says (as in production, a busy one stays until it is). GPU-hours
count from the order to the end, start-up times included.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from math import inf

import numpy as np

from packers.autoscale.context import Autoscaler, Scale, ScaleContext
from packers.load import Aim, LoadTracker
from packers.types import Demand, Footprint, Model, ModelId

HOLD_TIMEOUT_S = 120.0
REPORT_S = 0.1


@dataclass(frozen=True, slots=True)
class Run:
    p99_wait_s: float
    late_share: float  # longer than the aim's wait_s
    gpu_hours: float
    most: int  # replicas at once
    starts: int


@dataclass(eq=False, slots=True)
class _Replica:
    id: int
    ordered_s: float
    ready_s: float
    busy: int = 0
    used_s: float = 0.0  # when it became idle or ready


@dataclass(eq=False, slots=True)
class Fleet:
    """``begin``: replicas that are ready when the trace begins."""

    at_s: Sequence[float]
    service_s: Sequence[float]
    aim: Aim
    tick_s: float
    policy: Autoscaler
    model: Model
    begin: int = 1
    now_s: float = 0.0
    ready: list[_Replica] = field(default_factory=list)
    starting: deque[_Replica] = field(default_factory=deque)
    ends: list[tuple[float, int, _Replica]] = field(default_factory=list)
    queue: deque[int] = field(default_factory=deque)
    waits_s: list[float] = field(default_factory=list)
    in_flight: int = 0
    gpu_s: float = 0.0
    orders: int = 0
    most: int = 0

    def run(self) -> Run:
        self.waits_s = [0.0] * len(self.at_s)
        self.ready = [_Replica(number, 0.0, 0.0) for number in range(self.begin)]
        self.orders = self.most = self.begin
        tracker = LoadTracker(self.aim)
        arrived = done = 0
        report_s = tick_s = 0.0
        while done < len(self.at_s):
            arrival_s = self.at_s[arrived] if arrived < len(self.at_s) else inf
            end_s = self.ends[0][0] if self.ends else inf
            ready_s = self.starting[0].ready_s if self.starting else inf
            self.now_s = now_s = min(arrival_s, end_s, ready_s, report_s)
            if now_s == end_s:
                done_by = heappop(self.ends)[2]
                done_by.busy -= 1
                done_by.used_s = now_s
                self.in_flight -= 1
                done += 1
            elif now_s == ready_s:
                self.starting[0].used_s = now_s
                self.ready.append(self.starting.popleft())
            elif now_s == arrival_s:
                tracker.arrive(now_s)
                self.queue.append(arrived)
                arrived += 1
            else:
                report_s += min(REPORT_S, self.tick_s)
                held = len(self.queue)
                tracker.observe(now_s, self.in_flight + held, held)
                if now_s >= tick_s - 1e-9:
                    tick_s += self.tick_s
                    self._decide(tracker)
            self._serve()
        for one in (*self.ready, *self.starting):
            self.gpu_s += self.now_s - one.ordered_s
        waits_s = np.array(self.waits_s)
        late = float(np.count_nonzero(waits_s > self.aim.wait_s) / waits_s.size)
        return Run(float(np.quantile(waits_s, 0.99)), late, self.gpu_s / 3600, self.most, self.orders - self.begin)

    def _serve(self) -> None:
        while self.queue:
            free = min(self.ready, key=_load_of, default=None)
            if free is None or free.busy >= self.aim.slots:
                return
            number = self.queue.popleft()
            free.busy += 1
            self.in_flight += 1
            self.waits_s[number] = self.now_s - self.at_s[number]
            heappush(self.ends, (self.now_s + self.service_s[number], number, free))

    def _decide(self, tracker: LoadTracker) -> None:
        scale = self._ask(tracker)
        coming = len(self.ready) + len(self.starting)
        for _ in range(scale.count - coming):
            self.starting.append(_Replica(self.orders, self.now_s, self.now_s + self.aim.start_s))
            self.orders += 1
        idle_since_s = self.now_s - (self.model.ttl_s if scale.linger_s is None else scale.linger_s) + 1e-9
        spare = [one for one in reversed(self.ready) if not one.busy and one.used_s <= idle_since_s]
        for idle in spare[: max(0, coming - scale.count)]:
            self.ready.remove(idle)
            self.gpu_s += self.now_s - idle.ordered_s
        self.most = max(self.most, len(self.ready) + len(self.starting))

    def _ask(self, tracker: LoadTracker) -> Scale:
        held = len(self.queue)
        first_s = self.at_s[self.queue[0]] if held else self.now_s
        demand = Demand(self.in_flight, held, self.now_s - first_s, False, first_s + HOLD_TIMEOUT_S if held else None)
        self.model = replace(self.model, demand=demand, load=tracker.load(self.now_s))
        context = ScaleContext(
            now_s=self.now_s,
            model=self.model,
            ready=len(self.ready),
            starting=len(self.starting),
            asleep=0,
            start_s=self.aim.start_s,
            memory=self.model.scale_memory,
            ready_in_s=tuple(one.ready_s - self.now_s for one in self.starting),
            aim=self.aim,
        )
        scale = self.policy(context)
        self.model = replace(self.model, scale_memory=scale.memory)
        return scale


def _load_of(replica: _Replica) -> int:
    return replica.busy


def model_of(aim: Aim, min_replicas: int = 1, max_replicas: int = 400) -> Model:
    footprint = Footprint(weights_bytes=1, kv_cache_bytes=0, overhead_bytes=0)
    return Model(
        ModelId("model"),
        footprint,
        min_replicas=min_replicas,
        max_replicas=max_replicas,
        target_in_flight=aim.slots,
    )


def fixed(context: ScaleContext) -> Scale:
    """As many as there are."""
    return Scale(context.coming, "a fixed number", context.memory, linger_s=0.0)
