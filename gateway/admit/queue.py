"""The held requests of one model: the highest priority first, and fair within one."""

from __future__ import annotations

from bisect import insort

from gateway.admit.fairness import FairQueue
from gateway.admit.ticket import Ticket
from gateway.inquiry import Caller


class Queue:
    """``earliest_s``: nobody's deadline is before it (monotonic)."""

    def __init__(self) -> None:
        self.count = 0
        self.earliest_s = float("inf")
        self._levels: dict[int, FairQueue] = {}
        self._priorities: list[int] = []  # negated, so the highest is first; all have somebody

    def add(self, ticket: Ticket) -> None:
        level = self._levels.get(ticket.priority)
        if level is None:
            level = self._levels[ticket.priority] = FairQueue()
            insort(self._priorities, -ticket.priority)
        level.add(ticket)
        self.count += 1
        self.earliest_s = min(self.earliest_s, ticket.deadline_s)

    def remove(self, ticket: Ticket) -> None:
        """Nothing happens when it is not here."""
        level = self._levels.get(ticket.priority)
        if level is not None:
            before = level.count
            level.remove(ticket)
            self.count -= before - level.count
            self._drop_if_empty(ticket.priority, level)

    def pop(self) -> Ticket:
        """The next one. Raises IndexError when there is none."""
        priority = -self._priorities[0]
        level = self._levels[priority]
        ticket = level.pop()
        self.count -= 1
        self._drop_if_empty(priority, level)
        return ticket

    def ahead_of(self, caller: Caller, priority: int) -> float:
        """About how many have their turn before a new one of this caller and priority."""
        higher = sum(level.count for known, level in self._levels.items() if known > priority)
        level = self._levels.get(priority)
        return higher + (level.ahead_of(caller) if level is not None else 0.0)

    def to_make_room(self, caller: Caller, priority: int) -> Ticket | None:
        """Who goes when there is no room for one more; None: the new one itself.

        1. Somebody of a lower priority: of the tenant with the most there the one that came last.
        2. Of the same priority somebody who has more waiting, by weight, than the new one's would.
        """
        if not self._priorities or (lowest := -self._priorities[-1]) > priority:
            return None
        level = self._levels[lowest]
        return level.newest() if lowest < priority else level.to_make_room(caller)

    def overdue(self, now_s: float) -> list[Ticket]:
        """Those whose deadline has come. They stay here."""
        if now_s < self.earliest_s:
            return []
        tickets = self.tickets()
        self.earliest_s = min((each.deadline_s for each in tickets if each.deadline_s > now_s), default=float("inf"))
        return [each for each in tickets if each.deadline_s <= now_s]

    def tickets(self) -> list[Ticket]:
        return [ticket for level in self._levels.values() for ticket in level.tickets()]

    def _drop_if_empty(self, priority: int, level: FairQueue) -> None:
        if not level.count:
            del self._levels[priority]
            self._priorities.remove(-priority)
