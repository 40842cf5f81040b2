"""The catalog as the loop uses it: each card with its folder on disk and what is wrong with it, if anything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from models.catalog.card import ModelCard
from models.catalog.source import SourceError, SourceInfo, check_source, resolve_source
from models.control.tracked import footprint_dict
from models.store.records import Failure, ModelRecord
from packers.types import Demand, Footprint, Model, ModelId


@dataclass(frozen=True, slots=True)
class Entry:
    card: ModelCard
    folder: Path | None
    footprint: Footprint
    max_model_len: int | None

    @property
    def id(self) -> ModelId:
        return ModelId(self.card.model_id)

    def as_model(self, demand: Demand, retry_at_s: float) -> Model:
        card = self.card
        return Model(
            id=self.id,
            footprint=self.footprint,
            min_replicas=card.min_replicas,
            max_replicas=card.max_replicas,
            ttl_s=card.ttl,
            priority=card.priority,
            pinned=card.pinned,
            can_sleep=card.can_sleep,
            target_in_flight=card.target_in_flight,
            demand=demand,
            retry_at_s=retry_at_s,
        )

    def as_record(self, failure: Failure | None) -> ModelRecord:
        card = self.card
        return ModelRecord(
            model_id=card.model_id,
            runtime=card.runtime,
            source=card.model_source,
            aliases=tuple(card.aliases),
            min_replicas=card.min_replicas,
            max_replicas=card.max_replicas,
            ttl_s=card.ttl,
            priority=card.priority,
            pinned=card.pinned,
            footprint=footprint_dict(self.footprint),
            card_hash=card.engine_hash,
            max_model_len=self.max_model_len,
            failure=failure,
        )


def inspect(card: ModelCard, config_dir: Path, cache_dir: Path) -> tuple[Path, SourceInfo]:
    """The model's folder and what is in it. Raises SourceError with one clear sentence."""
    folder = resolve_source(card, config_dir, cache_dir)
    return folder, check_source(card, folder)


def entry_of(card: ModelCard, config_dir: Path, cache_dir: Path) -> Entry:
    """A card whose source is broken stays in the catalog: its start will fail with the reason."""
    try:
        folder, info = inspect(card, config_dir, cache_dir)
    except SourceError:
        return Entry(card, None, card.footprint(None), _asked_model_len(card))
    return Entry(card, folder, card.footprint(info), _asked_model_len(card) or info.max_model_len)


def entries_of(cards: Iterable[ModelCard], config_dir: Path, cache_dir: Path) -> dict[ModelId, Entry]:
    entries = (entry_of(card, config_dir, cache_dir) for card in cards)
    return {entry.id: entry for entry in entries}


def _asked_model_len(card: ModelCard) -> int | None:
    asked = card.engine_args.get("max_model_len", card.engine_args.get("max-model-len"))
    return asked if isinstance(asked, int) else None
