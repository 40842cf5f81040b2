"""Where requests may go: the route table in memory."""

from __future__ import annotations

from gateway.neighbours import Neighbours
from models.store.records import ModelRoute, RouteTable

READY = "ready"


class Routes:
    """The table this worker routes by, keyed by model id, alias and adapter.

    ``neighbours``: how replicas of other nodes are reached.
    """

    def __init__(self, neighbours: Neighbours | None = None) -> None:
        self.neighbours = neighbours or Neighbours()
        self._table: RouteTable | None = None
        self._by_name: dict[str, ModelRoute] = {}
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
        table = self._table = self.neighbours.seen(table)
        self._by_name = {adapter: model for model in table.models for adapter in model.adapters}
        self._by_name |= {alias: model for model in table.models for alias in model.aliases}
        self._by_name |= {model.model_id: model for model in table.models}  # an id wins over an alias, over an adapter
        return True

    def find(self, name: str) -> ModelRoute | None:
        return self._by_name.get(name)


def is_cold(route: ModelRoute) -> bool:
    """No replica is ready, not even a busy one: what waits now waits for a start."""
    return not any(replica.state == READY for replica in route.replicas)
