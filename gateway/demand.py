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


@dataclass(slots=True)
class Demand:
    """Counts per model and replica. ``on_change`` wakes whoever publishes; it is called when the pace quickened."""

    on_change: Callable[[], None] = lambda: None
    pace: Pace = field(default_factory=Pace)
    _in_flight: Counter[ModelId] = field(default_factory=Counter)
    _on_replica: Counter[ReplicaId] = field(default_factory=Counter)
    _held_since: dict[ModelId, dict[int, float]] = field(default_factory=dict)  # ticket -> Unix time, oldest first
    _last_request: dict[ModelId, float] = field(default_factory=dict)

    def arrived(self, model: ModelId, now_unix_s: float) -> None:
        self._last_request[model] = now_unix_s
        self._note()

    def held(self, model: ModelId, ticket: int, since_unix_s: float) -> None:
        waiting = self._held_since.setdefault(model, {})
        waiting[ticket] = since_unix_s
        self._note(urgent=len(waiting) == 1)

    def unheld(self, model: ModelId, ticket: int) -> None:
        waiting = self._held_since.get(model, {})
        waiting.pop(ticket, None)
        if not waiting:
            self._held_since.pop(model, None)
        self._note(urgent=not waiting)

    def began(self, model: ModelId, replica: ReplicaId) -> None:
        self._in_flight[model] += 1
        self._on_replica[replica] += 1
        self._note()

    def ended(self, model: ModelId, replica: ReplicaId, *, draining: bool, now_unix_s: float) -> None:
        """``draining``: somebody waits for the replica's last request to end."""
        _drop(self._in_flight, model)
        _drop(self._on_replica, replica)
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
        return len(self._held_since.get(model, ()))

    def totals(self) -> dict[ModelId, tuple[int, int]]:
        """Model -> (in flight, held), for every model that ever had a request here."""
        return {model: (self._in_flight[model], self.held_count(model)) for model in self._last_request}

    def report(self, worker: str, routes_version: int, now_unix_s: float) -> DemandReport:
        return DemandReport(
            worker=worker,
            routes_version=routes_version,
            sent_unix_s=now_unix_s,
            models={model: self._model(model) for model in self._last_request},
            replicas={replica: count for replica, count in self._on_replica.items() if count},
        )

    def _model(self, model: ModelId) -> ModelDemand:
        waiting = self._held_since.get(model, {})
        return ModelDemand(
            in_flight=self._in_flight[model],
            held=len(waiting),
            oldest_held_unix_s=min(waiting.values(), default=None),
            last_request_unix_s=self._last_request[model],
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
