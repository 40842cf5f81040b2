"""Whose turn it is: among tenants by the work they were given, within a tenant by age."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass, field

from gateway.admit.ticket import Ticket

_SLACK = 64


@dataclass(slots=True)
class Backlog:
    """A tenant's held requests, oldest first. ``work``: tokens it was given, by its weight (its virtual counter)."""

    work: float
    weight: float
    tickets: OrderedDict[int, Ticket] = field(default_factory=OrderedDict)


class FairQueue:
    """Held requests of one priority. The tenant that was given the least work is next.

    The virtual token counter of Sheng et al. (OSDI 2024, algorithm 2): who comes in anew starts where the others are,
    so that nobody saves up turns by staying away. Of two tenants that always have something here, the work they are
    given differs by at most the largest request of each. ``_reached``: the counter of the last one whose turn it was.

    What is asked for each new request costs the same however many tenants there are.
    """

    def __init__(self) -> None:
        self.count = 0
        self._reached = 0.0
        self._weight = 0.0  # of the tenants that have something here
        self._most = _SLACK  # entries, until those that are out of date are cleared away
        self._longest: tuple[str, float] | None = None  # as ``longest`` found it; None: to be looked for
        self._backlogs: dict[str, Backlog] = {}
        # (work, id of the oldest ticket, tenant). One that is out of date has another work than its tenant, or another
        # ticket; each tenant that has tickets has an entry with its work.
        self._turns: list[tuple[float, int, str]] = []

    def add(self, ticket: Ticket) -> None:
        self._clear_away()
        backlog = self._backlogs.get(ticket.tenant)
        if backlog is None:
            backlog = self._backlogs[ticket.tenant] = Backlog(self._reached, ticket.weight)
        if not backlog.tickets:
            backlog.work, backlog.weight = max(backlog.work, self._reached), ticket.weight
            self._weight += ticket.weight
            heapq.heappush(self._turns, (backlog.work, ticket.id, ticket.tenant))
        backlog.tickets[ticket.id] = ticket
        if ticket.retry:  # it had its turn once
            backlog.tickets.move_to_end(ticket.id, last=False)
        self.count += 1
        if self._longest is not None and (length := len(backlog.tickets) / backlog.weight) > self._longest[1]:
            self._longest = (ticket.tenant, length)

    def remove(self, ticket: Ticket) -> None:
        backlog = self._backlogs.get(ticket.tenant)
        if backlog is not None and backlog.tickets.pop(ticket.id, None) is not None:
            self._one_less(ticket.tenant, backlog)

    def pop(self) -> Ticket:
        """The next one, which has to pay for its turn. Raises IndexError when there is none."""
        while True:
            work, oldest, tenant = heapq.heappop(self._turns)
            backlog = self._backlogs.get(tenant)
            if backlog is None or not backlog.tickets or backlog.work != work:
                continue
            first = next(iter(backlog.tickets))
            if first != oldest:  # its oldest left, which costs it the turn among equals only
                heapq.heappush(self._turns, (work, first, tenant))
                continue
            ticket = backlog.tickets.pop(first)
            self._one_less(tenant, backlog)
            self._reached = work
            backlog.work = work + ticket.tokens / ticket.weight
            if backlog.tickets:
                heapq.heappush(self._turns, (backlog.work, next(iter(backlog.tickets)), tenant))
            return ticket

    def ahead_of(self, tenant: str, weight: float) -> float:
        """About how many have their turn before a new one of this tenant: its own, and the others' share meanwhile.

        At most that many: as if the others had enough here to use their share.
        """
        own = self._count_of(tenant)
        others = self._weight - (self._backlogs[tenant].weight if own else 0.0)
        return own + min(self.count - own, (own + 1) * max(0.0, others) / weight)

    def waiting_of(self, tenant: str, weight: float) -> float:
        """How many it has here, by its weight."""
        return self._count_of(tenant) / weight

    def longest(self) -> tuple[str, float]:
        """The tenant that has the most here by its weight, and how many that are. Raises ValueError when empty."""
        if self._longest is None:
            self._longest = max(
                ((name, len(each.tickets) / each.weight) for name, each in self._backlogs.items() if each.tickets),
                key=lambda found: found[1],
            )
        return self._longest

    def newest_of(self, tenant: str) -> Ticket:
        tickets = self._backlogs[tenant].tickets
        return tickets[next(reversed(tickets))]

    def tickets(self) -> list[Ticket]:
        return [ticket for backlog in self._backlogs.values() for ticket in backlog.tickets.values()]

    def _one_less(self, tenant: str, backlog: Backlog) -> None:
        self.count -= 1
        if not backlog.tickets:
            self._weight = self._weight - backlog.weight if self.count else 0.0
        if self._longest is not None and self._longest[0] == tenant:
            self._longest = None

    def _count_of(self, tenant: str) -> int:
        backlog = self._backlogs.get(tenant)
        return len(backlog.tickets) if backlog is not None else 0

    def _clear_away(self) -> None:
        """Whoever has nothing here and would start where the others are needs no memory of it."""
        if max(len(self._backlogs), len(self._turns)) <= self._most:
            return
        self._backlogs = {
            name: each for name, each in self._backlogs.items() if each.tickets or each.work > self._reached
        }
        self._turns = [
            (each.work, next(iter(each.tickets)), name) for name, each in self._backlogs.items() if each.tickets
        ]
        heapq.heapify(self._turns)
        self._most = 2 * len(self._backlogs) + _SLACK  # twice: so that it is rarely done
