"""The gateways' part: requests go to the ready replica with the least to do, or wait in their model's queue.

What is in flight on a replica is a heap of the times at which it ends, and is looked at only when somebody asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf, nan

from packers.sim.agenda import Agenda, Kind
from packers.sim.trackers import Past
from packers.types import Demand, Model, Replica

NO_LIMIT = 1 << 62


@dataclass(eq=False, slots=True)
class Runner:
    """A replica and what it works on. How much that is in ``replica`` may be out of date."""

    replica: Replica
    lane: Lane
    last_s: float  # when it was of use last, while it is idle
    ends_s: list[float] = field(default_factory=list)  # a heap
    seen: int = 0  # in flight when the State was told last
    touched: bool = False  # it was given a request since its use was last refreshed
    draining: bool = False

    def in_flight(self, now_s: float) -> int:
        ends_s = self.ends_s
        while ends_s and ends_s[0] <= now_s:
            self.last_s = heappop(ends_s)
        return len(ends_s)

    def use(self, now_s: float) -> tuple[int, float]:
        """(requests in flight, when it was of use last)."""
        in_flight = self.in_flight(now_s)
        return in_flight, now_s if in_flight else self.last_s

    @property
    def idle_from_s(self) -> float:
        """When it has nothing to do, if nothing comes."""
        return max(self.ends_s, default=self.last_s)


@dataclass(eq=False, slots=True)
class Lane:
    """A model as gateways see it. ``only``: the one ready replica, when there is one and it takes every request."""

    model: Model  # what it is now in demand is in the State
    past: Past
    slots: int
    alone: bool = False  # it has one replica at most: while that is busy, it matters to no decision how busy
    ready: list[Runner] = field(default_factory=list)  # by id
    draining: list[Runner] = field(default_factory=list)
    only: Runner | None = None
    queue: deque[int] = field(default_factory=deque)
    starting: int = 0
    asleep: int = 0
    refused_until_s: float = -inf  # after a failed start; infinity: it can never be placed
    delayed: int = 0
    queued: int = 0
    refused: int = 0
    timed_out: int = 0
    failed: int = 0
    deadline_set: bool = False
    slot_free_s: float = inf  # when the queue is looked at next

    def in_flight(self, now_s: float) -> int:
        return sum(one.in_flight(now_s) for one in (*self.ready, *self.draining))

    def enter(self, runner: Runner) -> None:
        self.ready.append(runner)
        self.ready.sort(key=lambda one: one.replica.id)
        self.appoint()

    def leave(self, runner: Runner) -> None:
        """It gets no more requests; what it has it finishes."""
        if runner in self.ready:
            self.ready.remove(runner)
            self.draining.append(runner)
            self.appoint()

    def forget(self, runner: Runner) -> None:
        self.leave(runner)
        if runner in self.draining:
            self.draining.remove(runner)

    def appoint(self) -> None:
        """Who, if anybody, can be given every request without a look at anything else."""
        alone = len(self.ready) == 1 and self.slots == NO_LIMIT and not self.queue
        self.only = self.ready[0] if alone else None


@dataclass(eq=False, slots=True)
class Front:
    """``ask``: called with a cause when something has to be decided. Request numbers are places in the trace."""

    agenda: Agenda
    at_s: list[float]
    service_s: list[float]
    waits_s: list[float]  # per request, 0 until it is known
    hold_timeout_s: float
    hold_limit: int
    ask: Callable[[str], None]
    touched: list[Runner] = field(default_factory=list)
    waiting: dict[str, Lane] = field(default_factory=dict)  # lanes with a queue, by model

    def arrive(self, number: int, lane: Lane) -> None:
        now_s = self.agenda.now_s
        if lane.refused_until_s > now_s:
            lane.delayed += 1
            self._refuse(number, lane)
            return
        if lane.ready:
            free = self._free(lane, now_s)
            if free is not None and not lane.queue:
                self._begin(free, number, now_s)
                return
            lane.queued += 1
        else:
            lane.delayed += 1
        self._hold(number, lane)

    def dispatch(self, lane: Lane) -> None:
        """Give the queue to whoever has room; with requests left, look again when the next slot is free."""
        now_s = self.agenda.now_s
        while lane.queue:
            free = self._free(lane, now_s)
            if free is None:
                break
            number = lane.queue.popleft()
            self.waits_s[number] = now_s - self.at_s[number]
            self._begin(free, number, now_s)
        self._settle(lane)
        if lane.queue and lane.ready:
            self._look_again(lane)

    def end_held(self, lane: Lane, *, failed: bool) -> None:
        """All that the model has waiting end with an error."""
        now_s = self.agenda.now_s
        while lane.queue:
            number = lane.queue.popleft()
            if failed:
                lane.failed += 1
                self.waits_s[number] = now_s - self.at_s[number]
            else:
                self._refuse(number, lane)
        self._settle(lane)

    def give_up(self) -> None:
        """The simulation ends: whoever still waits has timed out."""
        for lane in list(self.waiting.values()):
            while lane.queue:
                self._time_out(lane)
            self._settle(lane)

    def demand(self, lane: Lane, in_flight: int) -> Demand:
        if not lane.queue:
            return Demand(in_flight=in_flight)
        since_s = self.at_s[lane.queue[0]]
        deadline_s = since_s + self.hold_timeout_s
        return Demand(
            in_flight=in_flight,
            held=len(lane.queue),
            oldest_wait_s=self.agenda.now_s - since_s,
            earliest_deadline_s=deadline_s if deadline_s < inf else None,
        )

    def _free(self, lane: Lane, now_s: float) -> Runner | None:
        """The ready replica with the least in flight that has a slot."""
        best, least = None, lane.slots
        for one in lane.ready:
            in_flight = one.in_flight(now_s)
            if in_flight < least:
                best, least = one, in_flight
        return best

    def _begin(self, runner: Runner, number: int, now_s: float) -> None:
        heappush(runner.ends_s, now_s + self.service_s[number])
        if not runner.touched:
            runner.touched = True
            self.touched.append(runner)

    def _hold(self, number: int, lane: Lane) -> None:
        if len(lane.queue) >= self.hold_limit:
            self._refuse(number, lane)
            return
        first = not lane.queue
        lane.queue.append(number)
        if not first:
            return
        self._settle(lane)
        self._watch_deadline(lane)
        if lane.ready:
            self._look_again(lane)
        elif not lane.starting:
            self.ask("held")

    def _refuse(self, number: int, lane: Lane) -> None:
        lane.refused += 1
        self.waits_s[number] = nan

    def _settle(self, lane: Lane) -> None:
        if lane.queue:
            self.waiting[lane.model.id] = lane
        else:
            self.waiting.pop(lane.model.id, None)
        lane.appoint()

    def _look_again(self, lane: Lane) -> None:
        at_s = min(one.ends_s[0] for one in lane.ready if one.ends_s)
        if at_s < lane.slot_free_s:
            lane.slot_free_s = at_s
            self.agenda.at(at_s, Kind.REQUEST, lambda: self._slot_free(lane, at_s))

    def _slot_free(self, lane: Lane, at_s: float) -> None:
        if lane.slot_free_s == at_s:
            lane.slot_free_s = inf
            self.dispatch(lane)

    def _watch_deadline(self, lane: Lane) -> None:
        if lane.queue and not lane.deadline_set and self.hold_timeout_s < inf:
            lane.deadline_set = True
            due_s = self.at_s[lane.queue[0]] + self.hold_timeout_s
            self.agenda.at(due_s, Kind.REQUEST, lambda: self._deadline(lane))

    def _deadline(self, lane: Lane) -> None:
        lane.deadline_set = False
        while lane.queue and self.at_s[lane.queue[0]] + self.hold_timeout_s <= self.agenda.now_s:
            self._time_out(lane)
        self._settle(lane)
        self._watch_deadline(lane)

    def _time_out(self, lane: Lane) -> None:
        number = lane.queue.popleft()
        lane.timed_out += 1
        self.waits_s[number] = self.agenda.now_s - self.at_s[number]
