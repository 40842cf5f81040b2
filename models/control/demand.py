"""What all gateway workers together see of each model and replica."""

from __future__ import annotations

from models.store.keys import DEMAND_TTL_S
from models.store.records import DemandReport
from packers.types import Demand, ModelId, ReplicaId


class DemandBook:
    """The newest report of every live worker. A worker that stops reporting is forgotten after DEMAND_TTL_S."""

    def __init__(self) -> None:
        self._reports: dict[str, DemandReport] = {}

    def put(self, report: DemandReport) -> None:
        known = self._reports.get(report.worker)
        if known is None or report.sent_unix_s >= known.sent_unix_s:
            self._reports[report.worker] = report

    def expire(self, now: float) -> None:
        dead = [w for w, r in self._reports.items() if now - r.sent_unix_s > DEMAND_TTL_S]
        for worker in dead:
            del self._reports[worker]

    @property
    def workers(self) -> int:
        return len(self._reports)

    def model(self, model: ModelId, now: float, operator_wake: bool = False) -> Demand:
        parts = [r.models[model] for r in self._reports.values() if model in r.models]
        oldest = min((p.oldest_held_unix_s for p in parts if p.oldest_held_unix_s is not None), default=now)
        return Demand(
            in_flight=sum(p.in_flight for p in parts),
            held=sum(p.held for p in parts),
            oldest_wait_s=max(0.0, now - oldest),
            operator_wake=operator_wake,
        )

    def last_request(self, model: ModelId) -> float:
        return max(
            (r.models[model].last_request_unix_s for r in self._reports.values() if model in r.models), default=0.0
        )

    def in_flight(self, replica: ReplicaId) -> int:
        return sum(r.replicas.get(replica, 0) for r in self._reports.values())

    def drained(self, replica: ReplicaId, routes_version: int) -> bool:
        """Every live worker routes by ``routes_version`` or newer and has nothing in flight on ``replica``."""
        return all(
            r.routes_version >= routes_version and r.replicas.get(replica, 0) == 0 for r in self._reports.values()
        )
