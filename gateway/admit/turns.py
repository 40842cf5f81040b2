"""Whose turn it is, by the work that each was given so far, and what part of it some were promised.

``Turns`` is the virtual token counter of Sheng et al. (OSDI 2024, algorithm 2): whoever has the lowest counter is next,
and who comes in anew starts where the others are, so that nobody saves up turns by staying away. Of two that always
have something here, the work they are given, by weight, differs by at most the largest request of either.

``Promises`` is what is served first (of those whose next request is due the one with the earliest deadline, as in WF2Q:
Bennett and Zhang, INFOCOM 1996). Who is promised a part g of all work, and always has something here, is given at
least g of it, less its own largest request and g of the largest of all.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

_SLACK = 64
# Work that was promised counts among turns, too, but for no more than so many of the largest requests: else who was
# given much by its promise would get nothing besides for as long again, once there is no need of it.
_HELD_AGAINST = 4


@dataclass(slots=True)
class _Counter:
    """``work``: tokens that it was given, by its weight. ``order``: among equals. ``here``: it wants a turn."""

    work: float
    weight: float
    order: int = 0
    here: bool = False


class Turns:
    """``reached``: the lowest counter. ``weight``: of all that are here."""

    def __init__(self) -> None:
        self.reached = 0.0
        self.weight = 0.0
        self._here = 0
        self._largest = 0.0
        self._most = _SLACK  # entries, until those that are out of date are cleared away
        self._known: dict[str, _Counter] = {}
        # (work, order, name). One that is out of date is not as its counter is; each that is here has one that is.
        self._line: list[tuple[float, int, str]] = []

    def begin(self, name: str, weight: float, order: int) -> None:
        """It was not here, and is. ``order``: of two with as much work the lower one is next."""
        self._clear_away()
        counter = self._known.get(name)
        if counter is None:
            counter = self._known[name] = _Counter(self.reached, weight)
        counter.work = max(counter.work, self.reached)
        counter.weight, counter.order, counter.here = weight, order, True
        self._here += 1
        self.weight += weight
        heapq.heappush(self._line, (counter.work, order, name))

    def end(self, name: str) -> None:
        """It has nothing here any more."""
        counter = self._known[name]
        counter.here = False
        self._here -= 1
        self.weight = self.weight - counter.weight if self._here else 0.0

    def first(self) -> str:
        """Whose turn it is. Raises IndexError when nobody is here."""
        while True:
            work, order, name = self._line[0]
            counter = self._known.get(name)
            if counter is not None and counter.here and counter.work == work and counter.order == order:
                self.reached = work
                return name
            heapq.heappop(self._line)

    def took(self, name: str, tokens: int, order: int, *, promised: bool = False) -> None:
        """It had a turn, by its promise or not; ``order``: for its next one."""
        self._clear_away()
        counter = self._known[name]
        charge = tokens / counter.weight
        self._largest = max(self._largest, charge)
        if promised:
            charge = min(charge, max(0.0, self.reached + _HELD_AGAINST * self._largest - counter.work))
        counter.work += charge
        counter.order = order
        heapq.heappush(self._line, (counter.work, order, name))

    def weight_of(self, name: str) -> float:
        """Of one that is here; 0 for any other."""
        counter = self._known.get(name)
        return counter.weight if counter is not None and counter.here else 0.0

    def _clear_away(self) -> None:
        """Whoever has nothing here and would start where the others are needs no memory of it."""
        if max(len(self._known), len(self._line)) <= self._most:
            return
        self._known = {name: each for name, each in self._known.items() if each.here or each.work > self.reached}
        self._line = [(each.work, each.order, name) for name, each in self._known.items() if each.here]
        heapq.heapify(self._line)
        self._most = 2 * len(self._known) + _SLACK  # twice: so that it is rarely done


@dataclass(slots=True)
class _Promise:
    """``due``: once so much work was given out in all, its next request is to be served."""

    due: float
    share: float
    here: bool = False


class Promises:
    """Parts that make more than one together are scaled to one. ``given``: all work that was given out, in tokens."""

    def __init__(self) -> None:
        self.given = 0.0
        self._shares = 0.0  # of those that are here
        self._here = 0
        self._known: dict[str, _Promise] = {}
        self._later: list[tuple[float, str]] = []  # (due, name)
        self._now: list[tuple[float, float, str]] = []  # (deadline, due, name) of those that were due

    def begin(self, name: str, share: float) -> None:
        """It is here. Nothing is owed to it from before."""
        self._clear_away()
        promise = self._known.get(name)
        if promise is None:
            promise = self._known[name] = _Promise(self.given, share)
        promise.due = max(promise.due, self.given)
        promise.share, promise.here = share, True
        self._here += 1
        self._shares += share
        heapq.heappush(self._later, (promise.due, name))

    def end(self, name: str) -> None:
        """It is not here any more. Nothing happens for one that was promised nothing."""
        promise = self._known.get(name)
        if promise is not None and promise.here:
            promise.here = False
            self._here -= 1
            self._shares = self._shares - promise.share if self._here else 0.0

    def first(self, tokens_of: Callable[[str], int]) -> str | None:
        """Who is to be served first; None: nobody has to. ``tokens_of``: of the next request of one that is here."""
        while self._later and self._later[0][0] <= self.given:
            due, name = heapq.heappop(self._later)
            if self._stands(name, due):
                heapq.heappush(self._now, (due + tokens_of(name) / self.scaled(self._known[name].share), due, name))
        while self._now:
            _, due, name = self._now[0]
            if self._stands(name, due):
                return name
            heapq.heappop(self._now)
        return None

    def took(self, name: str, tokens: int) -> None:
        """It was served by its promise."""
        promise = self._known[name]
        promise.due += tokens / self.scaled(promise.share)
        heapq.heappush(self._later, (promise.due, name))

    def share_of(self, name: str) -> float:
        """Of one that is here; 0 for any other."""
        promise = self._known.get(name)
        return promise.share if promise is not None and promise.here else 0.0

    def scaled(self, share: float) -> float:
        """What is left of a promise beside the others that are here."""
        return share / max(1.0, self._shares)

    def _stands(self, name: str, due: float) -> bool:
        promise = self._known.get(name)
        return promise is not None and promise.here and promise.due == due

    def _clear_away(self) -> None:
        if len(self._known) + len(self._later) + len(self._now) > 4 * self._here + _SLACK:
            self._known = {name: each for name, each in self._known.items() if each.here or each.due > self.given}
            self._later = [entry for entry in set(self._later) if self._stands(entry[1], entry[0])]
            self._now = [entry for entry in set(self._now) if self._stands(entry[2], entry[1])]
            heapq.heapify(self._later)
            heapq.heapify(self._now)
