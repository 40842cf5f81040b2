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

    ``salt``: its name as a number, alike in every worker. ``shared_s``: seconds that each request of this worker's has
    had of it, if it was there all the time: it grows by the time over how many are there (processor sharing), so that
    a request's part is the difference between its end and its beginning. True at ``shared_at_s`` (monotonic).
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
    shared_s: float = 0.0
    shared_at_s: float = 0.0
    memory_bytes: int = 0  # of its GPU
    gpu_share: float = 0.0
    salt: int = field(init=False)

    def __post_init__(self) -> None:
        self.salt = salt_of(self.id)

    def share_until(self, now_s: float) -> float:
        """``shared_s`` at this time."""
        if self.flying and now_s > self.shared_at_s:
            self.shared_s += (now_s - self.shared_at_s) / self.flying
        self.shared_at_s = now_s
        return self.shared_s


def share_of(slots: int, workers: int) -> int:
    """What one of ``workers`` may have of a replica's slots; 0 slots: nobody knows how many, so as many as come."""
    return -(-slots // workers) if slots > 0 else NO_LIMIT
