"""One replica as this worker sees it: what it has there, and how much more it may send."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.admit.hashing import salt_of
from packers.types import ReplicaId

NO_LIMIT = 1 << 60
LEAST_WEIGHT = 1e-6


@dataclass(slots=True, eq=False)
class Target:
    """``slots``: requests that it works on at once, of all workers; ``limit``: of those the part of this worker.

    ``salt``: its name as a number, alike in every worker.
    """

    id: ReplicaId
    endpoint: str
    serves_as: str | None = None
    revision: str = ""
    weight: float = 1.0
    slots: int = 0
    limit: int = NO_LIMIT
    ready: bool = True
    flying: int = 0
    tokens: int = 0  # of what is in flight
    salt: int = field(init=False)

    def __post_init__(self) -> None:
        self.salt = salt_of(self.id)


def share_of(slots: int, workers: int) -> int:
    """What one of ``workers`` may have of a replica's slots; 0 slots: nobody knows how many, so as many as come."""
    return -(-slots // workers) if slots > 0 else NO_LIMIT
