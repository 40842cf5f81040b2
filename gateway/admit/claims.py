"""A place on a replica, who it is for, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from gateway.errors import GatewayError
from packers.types import ModelId, ReplicaId

if TYPE_CHECKING:
    from gateway.admit.desk import Desk
    from gateway.admit.target import Target


class Outcome(Enum):
    """How a request left its replica. OK and LEFT say nothing bad of it."""

    OK = "ok"  # answered, also with an error that the request itself earned
    LOST = "lost"  # the connection was refused or broke
    BUSY = "busy"  # it said that it takes no more now (503, 429)
    STALLED = "stalled"  # it says nothing any more
    LEFT = "left"  # the caller left


@dataclass(slots=True, eq=False)
class Claim:
    """A place on a replica, in flight from the moment it was chosen until it is given back.

    ``tokens``: how much work it stands for. ``waited_s``: from being held to this place; ``woken``: what it waited for
    was a start, not a place on a busy replica. ``retry``: a replica was lost before, and it counts against the budget.
    ``shared_s``: of its target when it began; once it is given back, the seconds of the replica that were its part.
    """

    model: ModelId
    replica: ReplicaId
    endpoint: str
    serves_as: str | None
    since_s: float  # monotonic
    tokens: int
    waited_s: float = 0.0
    woken: bool = False
    retry: bool = False
    shared_s: float = 0.0
    desk: Desk | None = field(default=None, repr=False)  # None: given back
    target: Target | None = field(default=None, repr=False)


class Seat(Protocol):
    """A request that is held. Exactly one of the two is called, once, from the event loop, unless it left before."""

    def admitted(self, claim: Claim) -> None: ...

    def refused(self, error: GatewayError) -> None: ...
