"""The one place where the simulator feeds and reads what policies know of a model's past."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from packers.load import NO_LOAD, Aim, Load, LoadTracker, aim_for
from packers.types import Model, StartTimes
from packers.usage import UNUSED, Usage, UsageTracker


@dataclass(eq=False, slots=True)
class Past:
    """Of one model. ``arrivals_s`` are all its arrivals, ``service_s`` how long each is worked on.

    The trackers are told of those up to a moment when somebody asks at that moment. ``usage``, ``load``: as of then.
    """

    arrivals_s: Sequence[float]
    service_s: Sequence[float] = ()
    load_tracker: LoadTracker | None = None
    usage_tracker: UsageTracker | None = None
    usage: Usage = UNUSED
    load: Load = NO_LOAD
    _told: int = 0
    _called: bool = False  # since usage was worked out last
    _served: list[tuple[float, float]] = field(default_factory=list)  # heap of (when it ends, how long it took)

    def refresh(self, now_s: float, in_flight: int, held: int) -> None:
        self.observe(now_s, in_flight, held)
        if self._told and self.load_tracker is not None:
            self.load = self.load_tracker.load(now_s)
        if self._called and self.usage_tracker is not None:
            self.usage = self.usage_tracker.usage(now_s)
            self._called = False

    def observe(self, now_s: float, in_flight: int, held: int) -> None:
        """Without working out what follows from it."""
        told = bisect_right(self.arrivals_s, now_s, lo=self._told)
        new = range(self._told, told)
        self._told = told
        if told and self.load_tracker is not None:  # production, too, follows no model that was never called
            self._observe(self.load_tracker, new, now_s, in_flight, held)
        if new and self.usage_tracker is not None:
            for number in new:
                self.usage_tracker.arrive(self.arrivals_s[number])
            self._called = True

    def retarget(self, aim: Aim) -> None:
        if self.load_tracker is not None:
            self.load_tracker.retarget(aim)

    def _observe(self, tracker: LoadTracker, new: Sequence[int], now_s: float, in_flight: int, held: int) -> None:
        for number in new:
            at_s, took_s = self.arrivals_s[number], self.service_s[number]
            self._finish(tracker, at_s)
            tracker.arrive(at_s)
            heappush(self._served, (at_s + took_s, took_s))
        self._finish(tracker, now_s)
        tracker.observe(now_s, in_flight + held, held)

    def _finish(self, tracker: LoadTracker, now_s: float) -> None:
        while self._served and self._served[0][0] <= now_s:
            done_s, took_s = heappop(self._served)
            tracker.finish(done_s, 1, took_s)


def aim_of(model: Model, startup: StartTimes, *, asleep: bool) -> Aim:
    """As in production: ``asleep``: one could be woken instead of started."""
    return aim_for(model.target_in_flight, startup.host_s if asleep else startup.disk_s, model.wait_s)
