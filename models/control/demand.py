"""What all gateway workers together see of each model and replica."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from models.store.keys import DEMAND_TTL_S
from models.store.records import DemandReport, ModelDemand
from packers.types import Demand, ModelId, ReplicaId

COUNTERS_KEPT_S = 3600.0  # a worker that was cut off and comes back goes on counting where it was


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests of a model since the last time it was asked. ``busy_s``: what the finished ones took, in all."""

    arrived: int = 0
    finished: int = 0
    busy_s: float = 0.0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.arrived + other.arrived, self.finished + other.finished, self.busy_s + other.busy_s)


class DemandBook:
    """The newest report of every live worker. A worker that stops reporting is forgotten after DEMAND_TTL_S.

    ``began_s``: since when this book is kept. What a worker counted before that is old news.
    """

    def __init__(self, began_s: float = 0.0) -> None:
        self.began_s = began_s
        self._reports: dict[str, DemandReport] = {}
        self._counted: dict[str, DemandReport] = {}  # up to where each worker's counters are in ``_traffic``
        self._traffic: dict[ModelId, Traffic] = {}
        self._changed_models: set[ModelId] = set()
        self._changed_replicas: set[ReplicaId] = set()

    def put(self, report: DemandReport) -> None:
        known = self._reports.get(report.worker)
        if known is None or report.sent_unix_s >= known.sent_unix_s:
            self._reports[report.worker] = report
            self._compare(known, report)
            self._count(report)

    def expire(self, now: float) -> None:
        dead = [w for w, r in self._reports.items() if now - r.sent_unix_s > DEMAND_TTL_S]
        for worker in dead:
            self._compare(self._reports.pop(worker), None)
        for worker in [w for w, r in self._counted.items() if now - r.sent_unix_s > COUNTERS_KEPT_S]:
            del self._counted[worker]

    def take_changed(self) -> tuple[set[ModelId], set[ReplicaId]]:
        """Of which models and replicas something else is said than when this was last called."""
        taken = self._changed_models, self._changed_replicas
        self._changed_models, self._changed_replicas = set(), set()
        return taken

    def _compare(self, before: DemandReport | None, after: DemandReport | None) -> None:
        models, replicas = (before.models, before.replicas) if before else ({}, {})
        models_now, replicas_now = (after.models, after.replicas) if after else ({}, {})
        if models != models_now:
            self._changed_models.update(map(ModelId, _different(models, models_now)))
        if replicas != replicas_now:
            self._changed_replicas.update(map(ReplicaId, _different(replicas, replicas_now)))

    def take_traffic(self) -> dict[ModelId, Traffic]:
        """Model -> what came and went since this was last called."""
        taken, self._traffic = self._traffic, {}
        return taken

    @property
    def workers(self) -> int:
        return len(self._reports)

    def model(self, model: ModelId, now: float, operator_wake: bool = False) -> Demand:
        parts = [r.models[model] for r in self._reports.values() if model in r.models]
        oldest = min((p.oldest_held_unix_s for p in parts if p.oldest_held_unix_s is not None), default=now)
        deadlines = (p.earliest_deadline_unix_s for p in parts if p.earliest_deadline_unix_s is not None)
        return Demand(
            in_flight=sum(p.in_flight for p in parts),
            held=sum(p.held for p in parts),
            oldest_wait_s=max(0.0, now - oldest),
            operator_wake=operator_wake,
            earliest_deadline_s=min(deadlines, default=None),
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

    def _count(self, report: DemandReport) -> None:
        before = self._counted.get(report.worker)
        self._counted[report.worker] = report
        if before is None and report.since_unix_s < self.began_s:
            return  # it counted for an earlier controller
        for name, now in report.models.items():
            model = ModelId(name)
            then = before.models.get(name, ModelDemand()) if before is not None else ModelDemand()
            traffic = _between(then, now)
            if traffic.arrived or traffic.finished:
                self._traffic[model] = self._traffic.get(model, Traffic()) + traffic


def _different(before: Mapping[str, object], after: Mapping[str, object]) -> Iterator[str]:
    """Names for which the two do not hold the same."""
    yield from (name for name, held in after.items() if name not in before or before[name] != held)
    yield from before.keys() - after.keys()


def _between(then: ModelDemand, now: ModelDemand) -> Traffic:
    """A counter that went down began again from zero."""
    if now.arrived < then.arrived or now.finished < then.finished:
        then = ModelDemand()
    return Traffic(now.arrived - then.arrived, now.finished - then.finished, max(0.0, now.busy_s - then.busy_s))
