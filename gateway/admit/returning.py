"""Callers who were refused because a start takes too long for them, and told when to come back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.demand import Demand
from packers.types import ModelId

COMES_BACK_S = 5.0  # after the time that it was told, a caller is still expected for so long


@dataclass(slots=True)
class Returning:
    """The start is made all the same: the controller starts what is waited for, so somebody waits, one per model,
    until the model is ready or the time is over."""

    demand: Demand
    tickets: Iterator[int]
    _expected: dict[ModelId, tuple[int, float]] = field(default_factory=dict)  # ticket, until when (monotonic)

    def __contains__(self, model: ModelId) -> bool:
        return model in self._expected

    def expect(self, model: ModelId, at_s: float, now_unix_s: float) -> None:
        """``at_s``: when it was told to come back (monotonic)."""
        ticket, until_s = self._expected.get(model, (0, 0.0))
        if not ticket:
            ticket = next(self.tickets)
            self.demand.held(model, ticket, now_unix_s)
        self._expected[model] = (ticket, max(until_s, at_s + COMES_BACK_S))

    def no_more(self, model: ModelId) -> bool:
        """True when somebody was expected."""
        ticket, _ = self._expected.pop(model, (0, 0.0))
        if ticket:
            self.demand.unheld(model, ticket)
        return bool(ticket)

    def overdue(self, now_s: float) -> list[ModelId]:
        return [model for model, (_, until_s) in self._expected.items() if now_s >= until_s]
