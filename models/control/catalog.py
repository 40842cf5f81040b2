"""The catalog as the loop uses it: each card with its folder on disk and what is wrong with it, if anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.catalog.capabilities import capabilities_of
from models.catalog.card import ModelCard
from models.catalog.footprint import DeviceDefaults
from models.catalog.known import KnownSources, SourceFacts
from models.catalog.source import SourceError, SourceInfo, check_source, resolve_source
from models.control.costs import UNKNOWN_TIER
from models.control.footprints import Judged, Learned, judge
from models.control.history import History
from models.control.tracked import footprint_dict, held_dict
from models.store.records import Failure, ModelRecord
from models.weights.errors import WeightsError
from models.weights.urls import parse_source
from packers.load import Aim, aim_for
from packers.types import Demand, Footprint, Model, ModelId

USUAL_SLOTS = 256


@dataclass(frozen=True, slots=True)
class Entry:
    card: ModelCard
    footprint: Footprint  # as the card says: declared, or estimated from its files
    max_model_len: int | None
    created_unix_s: int = 0  # when its folder was made; 0 while there is none
    folder: str = ""  # where its files are; "" while they are not here, or cannot be served
    capabilities: tuple[str, ...] = ()  # none: only its engine knows
    source: str = ""  # its whole name, the same on every node

    @property
    def id(self) -> ModelId:
        return ModelId(self.card.model_id)

    @property
    def slots(self) -> int:
        """Requests that a replica works on at once; more of them wait in the gateway, where waiting is fair."""
        asked = self.card.engine_args.get("max_num_seqs")
        return asked if type(asked) is int and asked > 0 else USUAL_SLOTS

    def as_model(
        self,
        demand: Demand,
        retry_at_s: float,
        history: History,
        *,
        footprint: Footprint | None = None,
        tier: str | None = None,
        floor: tuple[int, str] | None = None,
        groups: tuple[str, ...] = (),
    ) -> Model:
        """``footprint``: what its next replica reserves; the card's where nothing was measured. ``tier``: where a start
        would find its weights now. ``floor``: how many replicas are kept, and why where the card asks for fewer.
        ``groups``: the reservations that it is in."""
        card = self.card
        min_replicas, floor_why = floor or (card.min_replicas, "")
        return Model(
            id=self.id,
            footprint=footprint or self.footprint,
            min_replicas=min_replicas,
            max_replicas=card.max_replicas,
            ttl_s=card.ttl,
            priority=card.priority,
            pinned=card.pinned,
            can_sleep=card.can_sleep,
            target_in_flight=card.target_in_flight,
            demand=demand,
            retry_at_s=retry_at_s,
            gpu_types=card.gpu_types,
            affinity=tuple(ModelId(name) for name in card.affinity),
            anti_affinity=tuple(ModelId(name) for name in card.anti_affinity),
            startup=history.startup(self.id, tier or UNKNOWN_TIER),
            usage=history.usage(self.id),
            load=history.load(self.id),
            scale_memory=history.memory(self.id),
            wait_s=card.max_wait,
            floor_why=floor_why,
            groups=groups,
        )

    def aim(self, history: History, *, asleep: bool, tier: str | None = None) -> Aim:
        """What its replicas are for. ``asleep``: one could be woken instead of started."""
        startup = history.startup(self.id, tier or UNKNOWN_TIER)
        start_s = startup.host_s if asleep else startup.disk_s
        return aim_for(self.card.target_in_flight, start_s, self.card.max_wait)

    def as_record(
        self,
        failure: Failure | None,
        *,
        judged: Judged | None = None,
        learned: Learned | None = None,
        costs_s: Mapping[str, float] | None = None,
        weights_tier: str = "",
        quarantined: int = 0,
    ) -> ModelRecord:
        card = self.card
        judged = judged or judge(card.declared, self.footprint, Learned())
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
            footprint=footprint_dict(judged.footprint),
            card_hash=card.engine_hash,
            max_model_len=self.max_model_len,
            failure=failure,
            footprint_from=dict(judged.origins),
            measured=held_dict(learned.highest()) if learned is not None and learned.lives else None,
            excess_bytes=judged.excess_bytes,
            costs_s=dict(costs_s or {}),
            weights_tier=weights_tier,
            quarantined=quarantined,
            capabilities=self.capabilities,
        )


@dataclass(frozen=True, slots=True)
class CatalogReader:
    """Turns cards into entries. Relative sources are relative to ``config_dir``; ``defaults`` fit the kind of GPU."""

    config_dir: Path
    cache_dir: Path
    defaults: DeviceDefaults

    def source_of(self, card: ModelCard) -> str:
        """By its whole name, the same on every node. Raises SourceError."""
        try:
            return str(parse_source(card.model_source, self.config_dir))
        except WeightsError as error:
            raise SourceError(f"Model {card.model_id!r} cannot be started from {card.model_source}: {error}.") from None

    def known(self, card: ModelCard) -> tuple[SourceFacts, Path] | None:
        """Of a source that is on other nodes only, once one of them has told of it."""
        try:
            return KnownSources(self.cache_dir).find(self.source_of(card))
        except SourceError:
            return None

    def learn(self, card: ModelCard, facts: SourceFacts) -> bool:
        """True when that is news. Raises SourceError, OSError."""
        return KnownSources(self.cache_dir).learn(self.source_of(card), facts)

    def inspect(self, card: ModelCard) -> tuple[Path, SourceInfo]:
        """The model's folder and what is in it. Raises SourceError with one clear sentence."""
        folder = resolve_source(card, self.config_dir, self.cache_dir)
        return folder, check_source(card, folder)

    def entry(self, card: ModelCard) -> Entry:
        """A card whose source is broken stays in the catalog: its start will fail with the reason."""
        try:
            folder, info = self.inspect(card)
        except SourceError:
            return self._elsewhere(card)
        length = _asked_model_len(card) or info.max_model_len
        created = int((folder / "config.json").stat().st_mtime)
        footprint = card.footprint(info, self.defaults)
        source = self.source_of(card)
        return Entry(card, footprint, length, created, str(folder), capabilities_of(card, folder), source=source)

    def _elsewhere(self, card: ModelCard) -> Entry:
        """Its source is not here, or broken."""
        known = self.known(card)
        info, folder = (known[0].info, known[1]) if known is not None else (None, None)
        length = _asked_model_len(card) or (info.max_model_len if info is not None else None)
        created = known[0].created_unix_s if known is not None else 0
        try:
            source = self.source_of(card)
        except SourceError:
            source = ""
        footprint = card.footprint(info, self.defaults)
        return Entry(card, footprint, length, created, capabilities=capabilities_of(card, folder), source=source)

    def entries(self, cards: Iterable[ModelCard]) -> dict[ModelId, Entry]:
        return {entry.id: entry for entry in map(self.entry, cards)}


def _asked_model_len(card: ModelCard) -> int | None:
    asked = card.engine_args.get("max_model_len", card.engine_args.get("max-model-len"))
    return asked if isinstance(asked, int) else None
