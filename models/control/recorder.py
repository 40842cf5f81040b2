"""Collects lines of a recording while somebody wants one. Bounded, and off by default."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from models.control.demand import Traffic
from models.control.recording import Arrivals, Dropped, Line, Step
from packers.load import NO_LOAD, NO_MEMORY
from packers.types import ModelId, Snapshot
from packers.usage import UNUSED

LONGEST_S = 3600.0  # whoever records asks again before it is over; one who is gone does not
WAITING_MAX = 2_000
UNCHANGED_EVERY_S = 10.0


@dataclass(slots=True)
class Recorder:
    """Lines wait here until they are written. When too many wait, new ones are dropped and counted."""

    until_s: float = 0.0
    _waiting: list[Line] = field(default_factory=list)
    _dropped: int = 0
    _seen: Any = None
    _step_s: float = 0.0

    def want(self, now: float, for_s: float) -> None:
        """Record until ``for_s`` from now, or as long as others want it; 0 ends it for all."""
        was_on = self.on(now)
        self.until_s = 0.0 if for_s <= 0 else max(self.until_s, now + min(for_s, LONGEST_S))
        if not was_on:
            self._seen = None  # a recording begins with a whole step

    def on(self, now: float) -> bool:
        return now < self.until_s

    def traffic(self, seen: dict[ModelId, Traffic], now: float) -> None:
        for model, one in sorted(seen.items()):
            service_s = one.busy_s / one.finished if one.finished else None
            self._add(Arrivals(at_s=now, model=model, count=one.arrived, finished=one.finished, service_s=service_s))

    def step(self, step: Step) -> None:
        """Kept when it changes something, when the world has changed, and every UNCHANGED_EVERY_S."""
        now = step.snapshot.now_s
        look = (_outline(step.snapshot), step.policies, step.plan.actions)
        if look != self._seen or now - self._step_s >= UNCHANGED_EVERY_S:
            self._seen, self._step_s = look, now
            self._add(step)

    def take(self) -> tuple[Line, ...]:
        """What has been collected, in order; with how many are missing, if any are."""
        if not self._waiting:
            return ()
        taken = tuple(self._waiting)
        if self._dropped:
            taken += (Dropped(lines=self._dropped),)
        self._waiting, self._dropped = [], 0
        return taken

    def lost(self, lines: tuple[Line, ...]) -> None:
        """They could not be written."""
        self._dropped += sum(line.lines if isinstance(line, Dropped) else 1 for line in lines)

    def _add(self, line: Line) -> None:
        if len(self._waiting) >= WAITING_MAX:
            self._dropped += 1
        else:
            self._waiting.append(line)


def _outline(snapshot: Snapshot) -> Any:
    """What makes one world another for whoever looks at the recording: not that time has passed."""
    return (
        snapshot.gpus,
        snapshot.nodes,
        snapshot.pools,
        tuple(replace(replica, last_used_s=0.0, in_flight=min(replica.in_flight, 1)) for replica in snapshot.replicas),
        tuple(
            replace(
                model,
                demand=replace(model.demand, oldest_wait_s=0.0),
                usage=UNUSED,
                load=NO_LOAD,
                scale_memory=NO_MEMORY,
            )
            for model in snapshot.models
        ),
    )
