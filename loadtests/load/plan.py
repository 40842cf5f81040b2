"""When what is asked: an open load's arrivals, or how many users a closed one has."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from loadtests.load.wish import Wish


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a run that its report tells apart. ``rate_per_s``: of an open load, ``users``: of a closed one."""

    name: str
    from_s: float
    until_s: float
    rate_per_s: float = 0.0
    users: int = 0


@dataclass(frozen=True, slots=True)
class Arrival:
    """Seconds from the beginning of the run."""

    at_s: float
    wish: Wish


@dataclass(frozen=True, slots=True)
class Step:
    """Something that is done to the service. ``do``: ``kill``, or ``tier`` (bring ``model`` to the tier ``what``).

    ``arrival``: what is asked when that is done.
    """

    at_s: float
    do: str
    what: str = ""
    model: str = ""
    arrival: Wish | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """``arrivals``: by time; of an open load. ``script``: one step after the other, each when the one before has its
    answer. Neither: users ask as soon as they have their answers. ``end_s``: nothing is begun after."""

    phases: tuple[Phase, ...]
    end_s: float
    arrivals: tuple[Arrival, ...] = ()
    script: tuple[Step, ...] = ()
    events: tuple[Step, ...] = ()

    @property
    def kind(self) -> str:
        return "script" if self.script else "open" if self.arrivals else "closed"

    def users_at(self, at_s: float) -> int:
        """Of a closed load; the others have one who starts everything."""
        return next((phase.users for phase in self.phases if phase.from_s <= at_s < phase.until_s), 0)

    @property
    def most_users(self) -> int:
        return max((phase.users for phase in self.phases), default=0)

    def digest(self) -> str:
        """Two runs of one digest asked the same at the same times."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]


def phase_at(phases: Sequence[Phase], at_s: float) -> int:
    """The place of the phase; the last one for what comes after."""
    for place, phase in enumerate(phases):
        if at_s < phase.until_s:
            return place
    return len(phases) - 1


def poisson(phases: Sequence[Phase], rng: random.Random) -> list[float]:
    """Arrivals of independent callers, at each phase's rate."""
    found = []
    for phase in phases:
        if phase.rate_per_s <= 0:
            continue
        at_s = phase.from_s + rng.expovariate(phase.rate_per_s)
        while at_s < phase.until_s:
            found.append(at_s)
            at_s += rng.expovariate(phase.rate_per_s)
    return found


def following(*parts: tuple[str, float, float]) -> tuple[Phase, ...]:
    """(name, seconds, rate a second), one after the other."""
    found, from_s = [], 0.0
    for name, lasts_s, rate in parts:
        found.append(Phase(name, from_s, from_s + lasts_s, rate_per_s=rate))
        from_s += lasts_s
    return tuple(found)
