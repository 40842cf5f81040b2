"""Held requests of one priority: among tenants by the work they were given, within a tenant among its keys in the same
way, and of one key by age.

A tenant that is guaranteed a share of the work goes first as long as it has not had it (``gateway.admit.turns``). What
is asked for each new request costs the same however many tenants there are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Protocol

from gateway.admit.target import LEAST_WEIGHT
from gateway.admit.ticket import Ticket
from gateway.admit.turns import Promises, Turns
from gateway.inquiry import Caller


class Line(Protocol):
    """Held requests that wait in some order."""

    @property
    def count(self) -> int: ...

    def add(self, ticket: Ticket) -> None: ...

    def remove(self, ticket: Ticket) -> None:
        """Nothing happens when it is not here."""

    def first(self) -> Ticket:
        """The next one; it stays. Raises IndexError when there is none."""

    def pop(self) -> Ticket:
        """The next one, which has to pay for its turn. Raises IndexError when there is none."""

    def newest(self) -> Ticket:
        """The one that came last of whoever has the most here."""

    def ahead_of(self, caller: Caller) -> float:
        """About how many have their turn before a new one of this caller."""

    def to_make_room(self, caller: Caller) -> Ticket | None:
        """Who goes when there is no room for a new one of this caller; None: the new one itself."""

    def tickets(self) -> list[Ticket]: ...


class ByAge:
    """Of one key: the oldest first, but for those that had their turn once."""

    def __init__(self) -> None:
        self._tickets: OrderedDict[int, Ticket] = OrderedDict()

    @property
    def count(self) -> int:
        return len(self._tickets)

    def add(self, ticket: Ticket) -> None:
        self._tickets[ticket.id] = ticket
        if ticket.retry:
            self._tickets.move_to_end(ticket.id, last=False)

    def remove(self, ticket: Ticket) -> None:
        self._tickets.pop(ticket.id, None)

    def first(self) -> Ticket:
        return next(iter(self._tickets.values()))

    def pop(self) -> Ticket:
        return self._tickets.popitem(last=False)[1]

    def newest(self) -> Ticket:
        return self._tickets[next(reversed(self._tickets))]

    def ahead_of(self, caller: Caller) -> float:
        return len(self._tickets)

    def to_make_room(self, caller: Caller) -> Ticket | None:
        return None

    def tickets(self) -> list[Ticket]:
        return list(self._tickets.values())


@dataclass(frozen=True, slots=True)
class Sharing:
    """Among whom work is shared out. ``share``: what part of it is guaranteed, 0 for none. ``below``: how each one's
    own requests wait."""

    name: Callable[[Caller], str]
    weight: Callable[[Caller], float]
    share: Callable[[Caller], float]
    below: Callable[[], Line]


class FairQueue:
    """Whoever was given the least work is next; but first those that have not had what they are guaranteed."""

    def __init__(self, sharing: Sharing | None = None) -> None:
        self.count = 0
        self._sharing = sharing or AMONG_TENANTS
        self._turns = Turns()
        self._promises = Promises()
        self._lines: dict[str, Line] = {}  # of those that have something here
        self._longest: tuple[str, float] | None = None  # as ``longest`` found it; None: to be looked for

    def add(self, ticket: Ticket) -> None:
        name = self._sharing.name(ticket.caller)
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = self._sharing.below()
            self._begin(name, ticket)
        line.add(ticket)
        self.count += 1
        if self._longest is not None and (length := self._length(name)) > self._longest[1]:
            self._longest = (name, length)

    def remove(self, ticket: Ticket) -> None:
        name = self._sharing.name(ticket.caller)
        line = self._lines.get(name)
        if line is not None:
            before = line.count
            line.remove(ticket)
            if line.count < before:
                self._one_less(name, line)

    def first(self) -> Ticket:
        return self._lines[self._turns.first()].first()

    def pop(self) -> Ticket:
        turn = self._turns.first()
        promised = self._promises.first(self._next_tokens)
        name = turn if promised is None else promised
        line = self._lines[name]
        ticket = line.pop()
        self._turns.took(name, ticket.tokens, line.first().id if line.count else 0, promised=promised is not None)
        if promised is not None:
            self._promises.took(name, ticket.tokens)
        self._promises.given += ticket.tokens
        self._one_less(name, line)
        return ticket

    def ahead_of(self, caller: Caller) -> float:
        """Its own, and the others' share meanwhile. At most that many: as if the others had enough to use theirs."""
        name, weight = self._sharing.name(caller), _weight(self._sharing.weight(caller))
        line = self._lines.get(name)
        own, mine = (line.ahead_of(caller), line.count) if line is not None else (0.0, 0)
        others = max(0.0, self._turns.weight - self._turns.weight_of(name)) / weight
        if share := _share(self._sharing.share(caller)):
            share = self._promises.scaled(share)
            others = min(others, (1.0 - share) / share)
        return own + min(self.count - mine, (own + 1) * others)

    def longest(self) -> tuple[str, float]:
        """Who has the most here by weight, and how many that are. Raises ValueError when empty."""
        if self._longest is None:
            self._longest = max(((name, self._length(name)) for name in self._lines), key=lambda found: found[1])
        return self._longest

    def newest(self) -> Ticket:
        return self._lines[self.longest()[0]].newest()

    def to_make_room(self, caller: Caller) -> Ticket | None:
        """1. The newest of whoever has more waiting, by weight, than this one's would; where this one is guaranteed a
        share, and has no more than that of the places, of whoever has the most. Nobody leaves a share so guaranteed.
        2. Else one of its own, where these are shared out in the same way.
        """
        name, weight = self._sharing.name(caller), _weight(self._sharing.weight(caller))
        line = self._lines.get(name)
        wanted = (line.count if line is not None else 0) + 1
        share = self._promises.scaled(_share(self._sharing.share(caller)))
        most = self._most_beside(name, guaranteed=share > 0.0)
        if most is not None and (self._length(most) > wanted / weight or wanted <= share * self.count):
            return self._lines[most].newest()
        return line.to_make_room(caller) if line is not None else None

    def tickets(self) -> list[Ticket]:
        return [ticket for line in self._lines.values() for ticket in line.tickets()]

    def _begin(self, name: str, ticket: Ticket) -> None:
        self._turns.begin(name, _weight(self._sharing.weight(ticket.caller)), ticket.id)
        if share := _share(self._sharing.share(ticket.caller)):
            self._promises.begin(name, share)

    def _one_less(self, name: str, line: Line) -> None:
        self.count -= 1
        if not line.count:
            del self._lines[name]
            self._turns.end(name)
            self._promises.end(name)
        if self._longest is not None and self._longest[0] == name:
            self._longest = None

    def _most_beside(self, name: str, *, guaranteed: bool) -> str | None:
        """Who has the most but for this one and for those that have no more than their guaranteed part of the places.
        None: nobody, or this one has the most itself and is guaranteed nothing."""
        most, _ = self.longest()
        if most == name and not guaranteed:
            return None
        if most != name and not self._keeps(most):
            return most
        return max((one for one in self._lines if one != name and not self._keeps(one)), key=self._length, default=None)

    def _keeps(self, name: str) -> bool:
        return self._lines[name].count <= self._promises.scaled(self._promises.share_of(name)) * self.count

    def _next_tokens(self, name: str) -> int:
        return self._lines[name].first().tokens

    def _length(self, name: str) -> float:
        return self._lines[name].count / self._turns.weight_of(name)


def _weight(asked: float) -> float:
    """A share of nothing would never have its turn."""
    return max(asked, LEAST_WEIGHT)


def _share(asked: float) -> float:
    return min(max(asked, 0.0), 1.0)


AMONG_KEYS = Sharing(attrgetter("key_id"), attrgetter("key_weight"), lambda _: 0.0, ByAge)
AMONG_TENANTS = Sharing(attrgetter("tenant"), attrgetter("weight"), attrgetter("share"), lambda: FairQueue(AMONG_KEYS))
