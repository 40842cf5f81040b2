"""What all gateway workers together see of each model and replica.

Workers run on other machines, whose clocks may be wrong, and are set at times. So a report's age is the time since it
came, and what it says of times is moved to the loop's clock by how far its sender's was from that (``_Heard.ahead_s``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from models.store.keys import DEMAND_TTL_S
from models.store.records import DemandReport, ModelDemand
from packers.types import Demand, ModelId, ReplicaId

COUNTERS_KEPT_S = 3600.0  # a worker that was cut off and comes back goes on counting where it was
CLOCKS_DRIFT = 0.0005  # seconds per second: as fast as a clock is slewed (adjtime)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests of a model since the last time it was asked. ``busy_s``: what the finished ones took, in all."""

    arrived: int = 0
    finished: int = 0
    busy_s: float = 0.0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.arrived + other.arrived, self.finished + other.finished, self.busy_s + other.busy_s)


@dataclass(frozen=True, slots=True)
class _Heard:
    """A worker's report. ``at_s``: when it came. ``ahead_s``: the loop's clock less the worker's.

    ``unheard_s``: for how long since nobody could be heard.
    """

    report: DemandReport
    at_s: float
    ahead_s: float
    unheard_s: float = 0.0

    def is_older_than(self, report: DemandReport) -> bool:
        if report.number or self.report.number:
            return report.number > self.report.number
        return report.sent_unix_s != self.report.sent_unix_s

    def of(self, model: ModelId) -> ModelDemand | None:
        return self.report.models.get(model)


class DemandBook:
    """The newest report of every live worker. A worker that stops reporting is forgotten after DEMAND_TTL_S.

    ``began_s``: since when this book is kept. What a worker counted before that is old news.
    """

    def __init__(self, began_s: float = 0.0) -> None:
        self.began_s = began_s
        self._reports: dict[str, _Heard] = {}
        self._counted: dict[str, _Heard] = {}  # up to where each worker's counters are in ``_traffic``
        self._traffic: dict[ModelId, Traffic] = {}
        self._changed_models: set[ModelId] = set()
        self._changed_replicas: set[ReplicaId] = set()

    def put(self, report: DemandReport, now: float | None = None) -> None:
        """``now``: when it came, by the loop's clock; as soon as it was sent, if not given.

        One that is known already, or older than what is known, changes nothing: a dead worker's last report, read again
        and again, does not keep it alive.
        """
        known = self._reports.get(report.worker)
        if known is not None and not known.is_older_than(report):
            return
        at_s = report.sent_unix_s if now is None else now
        heard = _Heard(report, at_s, _ahead_s(self._counted.get(report.worker), report, at_s))
        self._reports[report.worker] = heard
        self._compare(known.report if known else None, report)
        self._count(heard)

    def expire(self, now: float) -> None:
        dead = [worker for worker, heard in self._reports.items() if now - heard.at_s - heard.unheard_s > DEMAND_TTL_S]
        for worker in dead:
            self._compare(self._reports.pop(worker).report, None)
        for worker in [worker for worker, heard in self._counted.items() if now - heard.at_s > COUNTERS_KEPT_S]:
            del self._counted[worker]

    def missed(self, duration_s: float) -> None:
        """For so long nobody could be heard, which is not the workers' silence: no report is older for it."""
        for worker, heard in self._reports.items():
            self._reports[worker] = replace(heard, unheard_s=heard.unheard_s + duration_s)

    def all_heard_since(self, at_s: float) -> bool:
        """Every worker that is known has reported since then."""
        return all(heard.at_s >= at_s for heard in self._reports.values())

    @property
    def routes_version(self) -> int:
        """The newest table that any live worker routes by."""
        return max((heard.report.routes_version for heard in self._reports.values()), default=0)

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

    def is_held(self, model: ModelId) -> bool:
        """Somebody waits for it."""
        return any(part.held for _, part in self._parts(model))

    def take_traffic(self, models: Iterable[ModelId] | None = None) -> dict[ModelId, Traffic]:
        """Of these models, or of all: what came and went since this was last asked of them."""
        asked = list(self._traffic) if models is None else models
        return {model: self._traffic.pop(model) for model in asked if model in self._traffic}

    @property
    def workers(self) -> int:
        return len(self._reports)

    def model(self, model: ModelId, now: float, operator_wake: bool = False) -> Demand:
        parts = self._parts(model)
        begun = ((heard, part.oldest_held_unix_s) for heard, part in parts)
        oldest = min((since + heard.ahead_s for heard, since in begun if since is not None), default=now)
        deadlines = ((heard, part.earliest_deadline_unix_s) for heard, part in parts)
        return Demand(
            in_flight=sum(part.in_flight for _, part in parts),
            held=sum(part.held for _, part in parts),
            oldest_wait_s=max(0.0, now - oldest),
            operator_wake=operator_wake,
            earliest_deadline_s=min((at + heard.ahead_s for heard, at in deadlines if at is not None), default=None),
        )

    def last_request(self, model: ModelId) -> float:
        """By the loop's clock, and never in its future; 0 when there was none."""
        asked = ((heard, part.last_request_unix_s) for heard, part in self._parts(model))
        return max((min(heard.at_s, at + heard.ahead_s) for heard, at in asked if at), default=0.0)

    def in_flight(self, replica: ReplicaId) -> int:
        return sum(heard.report.replicas.get(replica, 0) for heard in self._reports.values())

    def drained(self, replica: ReplicaId, routes_version: int) -> bool:
        """Every live worker routes by ``routes_version`` or newer and has nothing in flight on ``replica``."""
        return all(
            heard.report.routes_version >= routes_version and heard.report.replicas.get(replica, 0) == 0
            for heard in self._reports.values()
        )

    def _parts(self, model: ModelId) -> list[tuple[_Heard, ModelDemand]]:
        return [(heard, part) for heard in self._reports.values() if (part := heard.of(model)) is not None]

    def _count(self, heard: _Heard) -> None:
        report = heard.report
        before = self._counted.get(report.worker)
        self._counted[report.worker] = heard
        if before is None and report.since_unix_s + heard.ahead_s < self.began_s:
            return  # it counted for an earlier controller
        for name, now in report.models.items():
            model = ModelId(name)
            then = before.report.models.get(name, ModelDemand()) if before is not None else ModelDemand()
            traffic = _between(then, now)
            if traffic.arrived or traffic.finished:
                self._traffic[model] = self._traffic.get(model, Traffic()) + traffic


def _ahead_s(known: _Heard | None, report: DemandReport, at_s: float) -> float:
    """What the worker's clock lacks. Reports take their time: the least that was seen is the nearest to the truth,
    but for a clock that was set meanwhile, and for what two clocks drift apart."""
    seen_s = at_s - report.sent_unix_s
    if known is None:
        return seen_s
    expected_s = known.ahead_s + CLOCKS_DRIFT * max(0.0, at_s - known.at_s)
    return expected_s if expected_s <= seen_s <= expected_s + DEMAND_TTL_S else seen_s


def _different(before: Mapping[str, object], after: Mapping[str, object]) -> Iterator[str]:
    """Names for which the two do not hold the same."""
    yield from (name for name, held in after.items() if name not in before or before[name] != held)
    yield from before.keys() - after.keys()


def _between(then: ModelDemand, now: ModelDemand) -> Traffic:
    """A counter that went down began again from zero."""
    if now.arrived < then.arrived or now.finished < then.finished:
        then = ModelDemand()
    return Traffic(now.arrived - then.arrived, now.finished - then.finished, max(0.0, now.busy_s - then.busy_s))
