"""Replicas that are kept for a while although nobody calls: by an operator's order, or by a card's schedule.

A floor raises a model's ``min_replicas``; everything else follows from that. It is bounded by ``max_replicas``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

from models.store.records import WarmRecord
from packers.types import Model, ModelId, Snapshot

By = Literal["operator", "schedule"]


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator asked for. ``until_s`` (Unix) None: until it is called off."""

    replicas: int
    since_s: float
    until_s: float | None

    def ended(self, now: float) -> bool:
        return self.until_s is not None and self.until_s <= now


@dataclass(frozen=True, slots=True)
class Floor:
    """``replicas`` of a model are kept now, ``why`` in words that stay the same for as long as it is in force.

    ``since_s``: when they should have been there; later than now for one that is brought up early.
    """

    replicas: int
    why: str
    since_s: float


@dataclass(slots=True)
class FloorBook:
    """Owned by the loop. ``floors``: what is in force; ``records``: what is shown, and kept for the next controller."""

    orders: dict[ModelId, Order] = field(default_factory=dict)
    floors: dict[ModelId, Floor] = field(default_factory=dict)
    records: tuple[WarmRecord, ...] = ()

    def recall(self, before: Iterable[WarmRecord], now: float) -> None:
        """An earlier controller's orders that are not over."""
        for record in before:
            if record.by == "operator" and (record.until_unix_s is None or record.until_unix_s > now):
                self.orders[ModelId(record.model_id)] = Order(record.asked, record.from_unix_s, record.until_unix_s)

    def least(self, model: ModelId, min_replicas: int) -> tuple[int, str]:
        """How many replicas the model has at least, and why where that is more than its card's ``min_replicas``."""
        floor = self.floors.get(model)
        if floor is None or floor.replicas <= min_replicas:
            return min_replicas, ""
        return floor.replicas, floor.why


def with_floor(snapshot: Snapshot, name: str, replicas: int) -> Snapshot:
    """So many of the model are kept; ``max_replicas`` bounds it. For asking what would be done."""
    models = (_raised(model, replicas) if model.id == name else model for model in snapshot.models)
    return replace(snapshot, models=tuple(models))


def _raised(model: Model, replicas: int) -> Model:
    kept = min(replicas, model.max_replicas)
    if kept <= model.min_replicas:
        return model
    return replace(model, min_replicas=kept, floor_why=f"{kept} would be kept warm")


def moment(at_s: float) -> str:
    """``2026-11-22 18:00 UTC``."""
    at = datetime.fromtimestamp(at_s, UTC)
    return f"{at:%Y-%m-%d %H:%M}{f':{at:%S}' if at.second else ''} UTC"
