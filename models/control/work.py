"""What the fleet is to do with each replica: ordered by a step, begun once the state is written, and then under way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine
from typing import Any

from packers.types import ReplicaId

Job = Coroutine[Any, Any, None]


class Work:
    """Owned by the loop."""

    def __init__(self) -> None:
        self._ordered: list[Job] = []
        self._under_way: Counter[ReplicaId] = Counter()

    def __bool__(self) -> bool:
        """Something was ordered that has not begun."""
        return bool(self._ordered)

    def order(self, replica: ReplicaId, job: Job) -> None:
        self._under_way[replica] += 1
        self._ordered.append(self._counted(replica, job))

    def take(self) -> list[Job]:
        """To be begun now."""
        ordered, self._ordered = self._ordered, []
        return ordered

    def under_way(self, replica: ReplicaId) -> bool:
        """Ordered, and not over."""
        return replica in self._under_way

    async def _counted(self, replica: ReplicaId, job: Job) -> None:
        try:
            await job
        finally:
            self._under_way[replica] -= 1
            if not self._under_way[replica]:
                del self._under_way[replica]
