"""The decision record: what was done, to whom, why, and what else was looked at."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from models.control.tracked import Tracked
from models.control.world import World
from models.store.records import DecisionRecord
from packers.types import Action, Hold, ModelId, NoFit, ReplicaId


class Journal:
    """Collects decisions until the loop writes them. A hold is noted when its reason is new, not at every step."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pending: list[DecisionRecord] = []
        self._holds: dict[ModelId, str] = {}

    @property
    def pending(self) -> tuple[DecisionRecord, ...]:
        return tuple(self._pending)

    def written(self, count: int) -> None:
        """The first ``count`` pending decisions are in the store."""
        del self._pending[:count]

    def plan(self, action: Action, replica: ReplicaId | None = None) -> None:
        self._add(
            type(action).__name__.lower(),
            action.model,
            action.reason,
            replica=replica or getattr(action, "replica", None),
            gpu=getattr(action, "gpu", None),
            evicted_for=getattr(action, "evicted_for", None),
            details=_details(action),
        )

    def hold(self, action: Hold) -> None:
        if self._holds.get(action.model) != action.reason:
            self._holds[action.model] = action.reason
            self.plan(action)

    def forget_holds(self, still_held: set[ModelId]) -> None:
        for model in [m for m in self._holds if m not in still_held]:
            del self._holds[model]

    def note(self, what: str, tracked: Tracked, reason: str, **details: Any) -> None:
        """Something that happened to a replica."""
        self._add(what, tracked.model, reason, replica=tracked.id, gpu=tracked.gpu, details=details)

    def note_text(self, what: str, model: ModelId | None, reason: str) -> None:
        self._add(what, model, reason)

    def _add(
        self,
        what: str,
        model: ModelId | None,
        reason: str,
        *,
        replica: str | None = None,
        gpu: str | None = None,
        evicted_for: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        self._pending.append(
            DecisionRecord(
                id=uuid.uuid4().hex[:12],
                at_unix_s=self._world.now,
                snapshot_id=str(self._world.seq),
                action=what,
                model_id=model,
                replica_id=replica,
                gpu=gpu,
                reason=reason,
                evicted_for=evicted_for,
                details=details or {},
            )
        )


def _details(action: Action) -> dict[str, Any]:
    details: dict[str, Any] = {}
    candidates = getattr(action, "candidates", ())
    if candidates:
        details["candidates"] = [msgspec.to_builtins(candidate) for candidate in candidates]
    no_fit = getattr(action, "no_fit", None)
    if isinstance(no_fit, NoFit):
        details["no_fit"] = msgspec.to_builtins(no_fit)
    return details
