"""Where requests go: the route table in memory, replicas under suspicion, and the choice of one replica."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from models.store.records import ModelRoute, ReplicaRoute, RouteTable
from packers.types import ReplicaId

READY = "ready"
FIRST_SUSPICION_S = 1.0
LONGEST_SUSPICION_S = 8.0


@dataclass(frozen=True, slots=True)
class Suspicion:
    until_s: float
    strikes: int


class Routes:
    """The table this worker routes by, keyed by model id and alias. Times are of the monotonic clock."""

    def __init__(self) -> None:
        self._table: RouteTable | None = None
        self._by_name: dict[str, ModelRoute] = {}
        self._states: dict[str, str] = {}
        self._suspicions: dict[str, Suspicion] = {}
        self._older_version: int | None = None

    @property
    def loaded(self) -> bool:
        return self._table is not None

    @property
    def version(self) -> int:
        return self._table.version if self._table else 0

    @property
    def models(self) -> tuple[ModelRoute, ...]:
        return self._table.models if self._table else ()

    @property
    def endpoints(self) -> frozenset[str]:
        return frozenset(replica.endpoint for model in self.models for replica in model.replicas)

    def offer(self, table: RouteTable) -> bool:
        """Take the table if it is newer; True when it was taken.

        An older one is what a straggler wrote, unless it is still there at the next look: then the store lost its data
        and counting began anew.
        """
        if self._table is not None and table.version <= self._table.version:
            confirmed = table.version < self._table.version and table.version == self._older_version
            self._older_version = table.version if table.version < self._table.version else None
            if not confirmed:
                return False
        self._older_version = None
        self._table = table
        self._by_name = {alias: model for model in table.models for alias in model.aliases}
        self._by_name |= {model.model_id: model for model in table.models}  # an id wins over an alias
        self._states = {replica.replica_id: replica.state for model in table.models for replica in model.replicas}
        self._suspicions = {known: why for known, why in self._suspicions.items() if known in self._states}
        return True

    def find(self, name: str) -> ModelRoute | None:
        return self._by_name.get(name)

    def is_draining(self, replica: ReplicaId) -> bool:
        """Also true of a replica that is gone from the table: nothing new goes there."""
        return self._states.get(replica) != READY

    def suspect(self, replica: ReplicaId, now_s: float) -> None:
        """It broke a connection: nothing new goes there until the suspicion ends; each lasts twice as long."""
        past = self._suspicions.get(replica)
        strikes = past.strikes + 1 if past else 1
        length_s = min(LONGEST_SUSPICION_S, FIRST_SUSPICION_S * 2 ** (strikes - 1))
        self._suspicions[replica] = Suspicion(until_s=now_s + length_s, strikes=strikes)

    def trust(self, replica: ReplicaId) -> None:
        """It answered."""
        self._suspicions.pop(replica, None)

    def candidates(self, route: ModelRoute, now_s: float) -> list[ReplicaRoute]:
        return [
            replica for replica in route.replicas if replica.state == READY and not self._is_suspect(replica, now_s)
        ]

    def _is_suspect(self, replica: ReplicaRoute, now_s: float) -> bool:
        suspicion = self._suspicions.get(replica.replica_id)
        return suspicion is not None and now_s < suspicion.until_s


def pick(candidates: list[ReplicaRoute], in_flight: Callable[[ReplicaId], int]) -> ReplicaRoute | None:
    """The replica with the fewest requests in flight from here; of equals the first.

    Always the same one of equals: its prefix cache stays warm, and replicas that are no longer needed fall idle.
    """
    return min(candidates, key=lambda replica: in_flight(ReplicaId(replica.replica_id)), default=None)
