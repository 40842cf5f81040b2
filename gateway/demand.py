"""What this worker asks of the controller: requests in flight and held, and when to tell about them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from models.store.records import DemandReport, ModelDemand
from packers.types import ModelId, ReplicaId

_Key = TypeVar("_Key", bound=str)
CHANGED_EVERY_S = 0.1
ALWAYS_EVERY_S = 1.0


@dataclass(slots=True)
class Pace:
    """Decides when the next report is due: at once when urgent, every 0.1 s when changed, every 1 s in any case."""

    sent_s: float = float("-inf")
    changed: bool = False
    urgent: bool = False

    def due_s(self) -> float:
        """The monotonic time at which to send the next report."""
        if self.urgent:
            return float("-inf")
        return self.sent_s + (CHANGED_EVERY_S if self.changed else ALWAYS_EVERY_S)

    def sent(self, now_s: float) -> None:
        self.sent_s, self.changed, self.urgent = now_s, False, False


@dataclass(frozen=True, slots=True)
class Wait:
    """A held request: since when, and when it gives up."""

    since_unix_s: float
    deadline_unix_s: float | None


@dataclass(slots=True)
class Demand:
    """Counts per model and replica. ``on_change`` wakes whoever publishes; it is called when the pace quickened."""

    on_change: Callable[[], None] = lambda: None
    pace: Pace = field(default_factory=Pace)
    _in_flight: Counter[ModelId] = field(default_factory=Counter)
    _on_replica: Counter[ReplicaId] = field(default_factory=Counter)
    _waiting: dict[ModelId, dict[int, Wait]] = field(default_factory=dict)  # ticket -> wait, oldest first
    _last_request: dict[ModelId, float] = field(default_factory=dict)
    _arrived: Counter[ModelId] = field(default_factory=Counter)
    _finished: Counter[ModelId] = field(default_factory=Counter)
    _busy_s: dict[ModelId, float] = field(default_factory=dict)
    _since_unix_s: float | None = None  # the first event that was counted

    def arrived(self, model: ModelId, now_unix_s: float) -> None:
        if self._since_unix_s is None:
            self._since_unix_s = now_unix_s
        self._last_request[model] = now_unix_s
        self._arrived[model] += 1
        self._note()

    def held(self, model: ModelId, ticket: int, since_unix_s: float, deadline_unix_s: float | None = None) -> None:
        """``deadline_unix_s``: when the request gives up."""
        waiting = self._waiting.setdefault(model, {})
        waiting[ticket] = Wait(since_unix_s, deadline_unix_s)
        self._note(urgent=len(waiting) == 1)

    def unheld(self, model: ModelId, ticket: int) -> None:
        waiting = self._waiting.get(model, {})
        waiting.pop(ticket, None)
        if not waiting:
            self._waiting.pop(model, None)
        self._note(urgent=not waiting)

    def began(self, model: ModelId, replica: ReplicaId) -> None:
        self._in_flight[model] += 1
        self._on_replica[replica] += 1
        self._note()

    def ended(
        self, model: ModelId, replica: ReplicaId, *, draining: bool, now_unix_s: float, busy_s: float = 0.0
    ) -> None:
        """``draining``: somebody waits for the replica's last request to end. ``busy_s``: how long it had its place."""
        _drop(self._in_flight, model)
        _drop(self._on_replica, replica)
        self._finished[model] += 1
        self._busy_s[model] = self._busy_s.get(model, 0.0) + busy_s
        self._last_request[model] = now_unix_s
        self._note(urgent=draining and not self._on_replica[replica])

    def routes_applied(self) -> None:
        """The controller waits to hear that the new table is in force here."""
        self._note(urgent=True)

    def in_flight(self, model: ModelId) -> int:
        return self._in_flight[model]

    def on_replica(self, replica: ReplicaId) -> int:
        return self._on_replica[replica]

    def held_count(self, model: ModelId) -> int:
        return len(self._waiting.get(model, ()))

    def totals(self) -> dict[ModelId, tuple[int, int]]:
        """Model -> (in flight, held), for every model that ever had a request here."""
        return {model: (self._in_flight[model], self.held_count(model)) for model in self._last_request}

    def report(self, worker: str, routes_version: int, now_unix_s: float) -> DemandReport:
        return DemandReport(
            worker=worker,
            routes_version=routes_version,
            sent_unix_s=now_unix_s,
            since_unix_s=now_unix_s if self._since_unix_s is None else self._since_unix_s,
            models={model: self._model(model) for model in self._last_request},
            replicas={replica: count for replica, count in self._on_replica.items() if count},
        )

    def _model(self, model: ModelId) -> ModelDemand:
        waiting = self._waiting.get(model, {}).values()
        deadlines = (wait.deadline_unix_s for wait in waiting if wait.deadline_unix_s is not None)
        return ModelDemand(
            in_flight=self._in_flight[model],
            held=len(waiting),
            oldest_held_unix_s=min((wait.since_unix_s for wait in waiting), default=None),
            last_request_unix_s=self._last_request[model],
            earliest_deadline_unix_s=min(deadlines, default=None),
            arrived=self._arrived[model],
            finished=self._finished[model],
            busy_s=self._busy_s.get(model, 0.0),
        )

    def _note(self, *, urgent: bool = False) -> None:
        quickened = (urgent and not self.pace.urgent) or not self.pace.changed
        self.pace.changed = True
        self.pace.urgent |= urgent
        if quickened:
            self.on_change()


def _drop(counts: Counter[_Key], key: _Key) -> None:
    counts[key] -= 1
    if counts[key] <= 0:
        del counts[key]
