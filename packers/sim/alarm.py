"""When decisions are due although nothing has happened.

The State knows when time alone changes something for what is idle (``State.next_time_s``). What is in use has to be
looked at again, as nobody is told when its last request ends: within the shortest time after which it could matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf, nextafter

from packers.sim.agenda import Agenda, Kind
from packers.sim.front import Runner
from packers.types import ReplicaState

AUTOMATIC_TICK_S = 1.0


@dataclass(eq=False, slots=True)
class Alarm:
    """``ask``: called with a cause when something has to be decided. ``refresh``: tells the State what is in use, and
    says whether anything is. ``next_time_s``: the State's."""

    agenda: Agenda
    ask: Callable[[str], None]
    refresh: Callable[[], bool]
    next_time_s: Callable[[float], float | None]
    busy_retry_s: float
    look_s: float
    _due_s: float = inf
    _look_set: bool = False
    _idle_set: bool = False

    def tick_every(self, tick_s: float) -> None:
        self.every(tick_s, lambda: self.ask("tick"))

    def every(self, period_s: float, happen: Callable[[], None]) -> None:
        """0: never."""

        def again() -> None:
            happen()
            self.every(period_s, happen)

        if period_s > 0:
            self.agenda.after(period_s, Kind.TIMER, again)

    def decided(self, in_use: bool) -> None:
        """A decision has been taken and carried out."""
        self._wait_for(self.next_time_s(self.agenda.now_s))
        self._look_later(in_use)

    def blocked(self, busy: Iterable[Runner], most_s: float) -> None:
        """Somebody is held: decide again when one of these has nothing to do any more, and after ``most_s``."""
        now_s = self.agenda.now_s
        if self._idle_set:
            return
        ends_s = [one.idle_from_s for one in busy if one.replica.state is ReplicaState.READY and one.ends_s]
        at_s = min([now_s + most_s, *ends_s])
        if at_s < inf:
            self._idle_set = True
            self.agenda.at(max(at_s, now_s + self.busy_retry_s), Kind.TIMER, self._idle)

    def _idle(self) -> None:
        self._idle_set = False
        self.ask("idle")

    def _wait_for(self, at_s: float | None) -> None:
        if at_s is not None and at_s < self._due_s:
            self._due_s = at_s
            self.agenda.at(at_s, Kind.TIMER, lambda: self._due(at_s))

    def _due(self, at_s: float) -> None:
        """It may have been put off meanwhile."""
        if at_s != self._due_s:
            return
        self._due_s = inf
        in_use = self.refresh()
        found_s = self.next_time_s(nextafter(at_s, -inf))
        if found_s is not None and found_s <= self.agenda.now_s:
            self.ask("time")
        else:
            self._wait_for(found_s)
            self._look_later(in_use)

    def _look_later(self, in_use: bool) -> None:
        if in_use and not self._look_set:
            self._look_set = True
            self.agenda.after(self.look_s, Kind.TIMER, self._look)

    def _look(self) -> None:
        self._look_set = False
        in_use = self.refresh()
        self._wait_for(self.next_time_s(self.agenda.now_s))
        self._look_later(in_use)
