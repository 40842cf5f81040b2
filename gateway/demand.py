"""What this worker asks of the controller: requests in flight and held, and when to tell about them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from models.store.records import DemandReport, ModelDemand
from packers.types import ModelId, ReplicaId

CHANGED_EVERY_S = 0.1
ALWAYS_EVERY_S = 1.0
MODELS_AT_THAT_PACE = 2000  # a report of more of them takes longer to make, and is made as much less often


@dataclass(slots=True)
class Pace:
    """Decides when the next report is due: at once when urgent, every 0.1 s when changed, every 1 s in any case.

    ``changed_every_s``: instead of the 0.1 s.
    """

    sent_s: float = float("-inf")
    changed_every_s: float = CHANGED_EVERY_S
    changed: bool = False
    urgent: bool = False

    def due_s(self) -> float:
        """The monotonic time at which to send the next report."""
        if self.urgent:
            return float("-inf")
        return self.sent_s + (self.changed_every_s if self.changed else ALWAYS_EVERY_S)

    def sent(self, now_s: float) -> None:
        self.sent_s, self.changed, self.urgent = now_s, False, False


@dataclass(frozen=True, slots=True)
class Wait:
    """A held request: since when, and when it gives up."""

    since_unix_s: float
    deadline_unix_s: float | None


@dataclass(slots=True)
class ModelCounts:
    """``waiting``: ticket -> wait, oldest first. ``shown``: as last reported; None when it changed since."""

    in_flight: int = 0
    arrived: int = 0
    finished: int = 0
    busy_s: float = 0.0
    last_request_unix_s: float = 0.0
    waiting: dict[int, Wait] = field(default_factory=dict)
    shown: ModelDemand | None = None

    def show(self) -> ModelDemand:
        if self.shown is None:
            waiting = self.waiting.values()
            deadlines = (wait.deadline_unix_s for wait in waiting if wait.deadline_unix_s is not None)
            self.shown = ModelDemand(
                in_flight=self.in_flight,
                held=len(waiting),
                oldest_held_unix_s=min((wait.since_unix_s for wait in waiting), default=None),
                last_request_unix_s=self.last_request_unix_s,
                earliest_deadline_unix_s=min(deadlines, default=None),
                arrived=self.arrived,
                finished=self.finished,
                busy_s=self.busy_s,
            )
        return self.shown


@dataclass(slots=True)
class Demand:
    """Counts per model and replica. ``on_change`` wakes whoever publishes; it is called when the pace quickened."""

    on_change: Callable[[], None] = lambda: None
    pace: Pace = field(default_factory=Pace)
    _models: dict[ModelId, ModelCounts] = field(default_factory=dict)
    _replicas: dict[ReplicaId, int] = field(default_factory=dict)  # in flight; an idle one is not listed
    _since_unix_s: float | None = None  # the first event that was counted
    _number: int = 0  # of the last report

    def of(self, model: ModelId) -> ModelCounts:
        counts = self._models.get(model)
        if counts is None:
            counts = self._models[model] = ModelCounts()
        return counts

    def arrived(self, model: ModelId, now_unix_s: float) -> None:
        if self._since_unix_s is None:
            self._since_unix_s = now_unix_s
        counts = self._models.get(model) or self.of(model)
        counts.last_request_unix_s = now_unix_s
        counts.arrived += 1
        counts.shown = None
        if not self.pace.changed:
            self._note()

    def held(self, model: ModelId, ticket: int, since_unix_s: float, deadline_unix_s: float | None = None) -> None:
        """``deadline_unix_s``: when the request gives up."""
        counts = self.of(model)
        counts.waiting[ticket] = Wait(since_unix_s, deadline_unix_s)
        counts.shown = None
        self._note(urgent=len(counts.waiting) == 1)

    def unheld(self, model: ModelId, ticket: int) -> None:
        counts = self.of(model)
        counts.waiting.pop(ticket, None)
        counts.shown = None
        self._note(urgent=not counts.waiting)

    def began(self, model: ModelId, replica: ReplicaId) -> None:
        counts = self._models.get(model) or self.of(model)
        counts.in_flight += 1
        counts.shown = None
        self._replicas[replica] = self._replicas.get(replica, 0) + 1
        if not self.pace.changed:
            self._note()

    def ended(
        self, model: ModelId, replica: ReplicaId, *, draining: bool, now_unix_s: float, busy_s: float = 0.0
    ) -> None:
        """``draining``: somebody waits for the replica's last request to end. ``busy_s``: how long it had its place."""
        counts = self._models.get(model) or self.of(model)
        counts.in_flight -= 1
        counts.finished += 1
        counts.busy_s += busy_s
        counts.last_request_unix_s = now_unix_s
        counts.shown = None
        left = self._replicas.get(replica, 0) - 1
        if left > 0:
            self._replicas[replica] = left
        else:
            self._replicas.pop(replica, None)
        if draining or not self.pace.changed:
            self._note(urgent=draining and left <= 0)

    def routes_applied(self) -> None:
        """The controller waits to hear that the new table is in force here."""
        self._note(urgent=True)

    def in_flight(self, model: ModelId) -> int:
        counts = self._models.get(model)
        return counts.in_flight if counts else 0

    def on_replica(self, replica: ReplicaId) -> int:
        return self._replicas.get(replica, 0)

    def held_count(self, model: ModelId) -> int:
        counts = self._models.get(model)
        return len(counts.waiting) if counts else 0

    def totals(self) -> dict[ModelId, tuple[int, int]]:
        """Model -> (in flight, held), for every model that ever had a request here."""
        return {model: (counts.in_flight, len(counts.waiting)) for model, counts in self._models.items()}

    def report(self, worker: str, routes_version: int, now_unix_s: float) -> DemandReport:
        many = max(1.0, len(self._models) / MODELS_AT_THAT_PACE)
        self.pace.changed_every_s = min(ALWAYS_EVERY_S, CHANGED_EVERY_S * many)
        self._number += 1
        return DemandReport(
            worker=worker,
            routes_version=routes_version,
            sent_unix_s=now_unix_s,
            since_unix_s=now_unix_s if self._since_unix_s is None else self._since_unix_s,
            models={model: counts.show() for model, counts in self._models.items()},
            replicas=dict(self._replicas.items()),
            number=self._number,
        )

    def _note(self, *, urgent: bool = False) -> None:
        quickened = (urgent and not self.pace.urgent) or not self.pace.changed
        self.pace.changed = True
        self.pace.urgent |= urgent
        if quickened:
            self.on_change()
