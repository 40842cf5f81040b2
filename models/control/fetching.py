"""A model's folder before each start: checked anew on the node that will run it, and brought there where it is not."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from models.catalog.adapters import adapter_folders
from models.catalog.card import ModelCard
from models.catalog.errors import SourceNotHere
from models.catalog.service import WeightsSettings
from models.catalog.source import SourceError
from models.catalog.units import format_bytes
from models.control.catalog import CatalogReader
from models.control.content import Source, fingerprint
from models.control.messages import ContentChanged, Fetching, Message
from models.control.supplier import Supplier
from models.fleet.supply import Found, Wanted
from models.weights.errors import WeightsError
from models.weights.peers.likeness import Likenesses
from models.weights.records import Progress
from models.weights.store import WeightStore
from packers.types import ModelId, NodeId

log = logging.getLogger("roundhouse.control")
TELL_EVERY_S = 1.0


class SourceDesk:
    """``post``: to the loop's inbox. ``here``: the node that shares this machine's store; its folders are looked at
    without asking it."""

    def __init__(
        self,
        reader: CatalogReader,
        *,
        post: Callable[[Message], None],
        supplier: Supplier,
        here: NodeId,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._allowed = False
        self._post = post
        self._supplier = supplier
        self._here = here
        self._clock = clock
        self._likenesses = Likenesses()

    def configure(self, weights: WeightsSettings) -> None:
        """From now on, for the store and for starts."""
        self._allowed = weights.download
        self._supplier.configure(weights.settings(), download=weights.download)
        try:
            WeightStore(self._reader.cache_dir).configure(weights.settings())
        except OSError as problem:
            log.warning("the quota of the weights could not be written down: %s", problem)

    async def check(self, card: ModelCard, node: NodeId) -> Source:
        """What an engine of this card will read on ``node``.

        1. This machine's own copy, when it is for this machine.
        2. Else the node's, as long as it is the same, or whatever it has of a source that is not here.
        3. Else it is brought there, from other nodes or from its source.

        Raises SourceError; StartFailed with a sentence that names the node. Weights of unknown size are not fetched by
        a start: it has reserved no memory.
        """
        mine = await self._mine(card, node)
        if mine is not None and node == self._here:
            return mine
        found = await self._bring(card, node, await self._wanted(card, mine))
        adapters = {
            name: (await self._bring(card, node, await self._adapter(card, name, given))).folder
            for name, given in card.adapters.items()
        }
        if mine is None:
            return await self._seen_there(card, node, found, adapters)
        return Source(Path(found.folder), mine.content, adapters)

    async def _mine(self, card: ModelCard, node: NodeId) -> Source | None:
        """None for what is not on this machine and may be brought. Raises SourceError."""
        try:
            return await asyncio.to_thread(self._look, card)
        except SourceNotHere as problem:
            if not self._allowed and not self._supplier.others(self._here):
                raise
            if card.declared.weights is None and self._reader.known(card) is None:
                cure = "or declare how large they are, and a start fetches them: declared: {weights: 16GiB}"
                raise SourceNotHere(f"{str(problem).removesuffix('.')}, {cure}.") from None
        except SourceError:
            if node == self._here or not self._is_elsewhere(card):
                raise
        return None

    def _is_elsewhere(self, card: ModelCard) -> bool:
        """A folder that this machine does not have at all may well be on others; one that is broken here is broken."""
        known = card.declared.weights is not None or self._reader.known(card) is not None
        return known and not Path(self._reader.source_of(card)).exists()

    def _look(self, card: ModelCard) -> Source:
        folder, _ = self._reader.inspect(card)
        adapters = adapter_folders(card, self._reader.config_dir)
        content = "".join(map(fingerprint, (folder, *adapters.values())))
        return Source(folder, content, {name: str(path) for name, path in adapters.items()})

    async def _bring(self, card: ModelCard, node: NodeId, wanted: Wanted) -> Found:
        model, told_s = ModelId(card.model_id), float("-inf")

        def tell(progress: Progress) -> None:
            nonlocal told_s
            if self._clock() - told_s >= TELL_EVERY_S:
                told_s = self._clock()
                self._post(Fetching(model, said(progress)))

        return await self._supplier.bring(node, wanted, tell)

    async def _seen_there(self, card: ModelCard, node: NodeId, found: Found, adapters: dict[str, str]) -> Source:
        """What could not be known before: how large it is, what it can do; here, it has become a folder like any."""
        if node == self._here:
            self._post(ContentChanged(ModelId(card.model_id)))
            return await asyncio.to_thread(self._look, card)
        if found.facts is not None and await asyncio.to_thread(self._reader.learn, card, found.facts):
            self._post(ContentChanged(ModelId(card.model_id)))
        return Source(Path(found.folder), "", adapters)

    async def _wanted(self, card: ModelCard, mine: Source | None) -> Wanted:
        source = self._reader.source_of(card)
        if mine is None:
            return Wanted(card=card, source=source)
        digest, likeness = await asyncio.to_thread(self._content, mine.folder)
        return Wanted(card=card, source=source, digest=digest, likeness=likeness)

    async def _adapter(self, card: ModelCard, name: str, given: str) -> Wanted:
        folder = (self._reader.config_dir / Path(given).expanduser()).absolute()
        digest, likeness = await asyncio.to_thread(self._content, folder)
        return Wanted(card=card, source=str(folder), adapter=name, digest=digest, likeness=likeness)

    def _content(self, folder: Path) -> tuple[str, str]:
        """Of what this machine has: its digest where that is known, and its likeness; nothing of what is not here."""
        try:
            digest = WeightStore(self._reader.cache_dir).book.identity(folder)[1]
            return digest or "", self._likenesses.of(folder)
        except (OSError, WeightsError):
            return "", ""


def said(progress: Progress) -> str:
    """How far it is, for people: ``downloading: 3.2 GiB of 16 GiB (20%), 340 MiB/s``."""
    if not progress.bytes_total:
        return f"{progress.phase}: its weights are fetched"
    done = f"{format_bytes(progress.bytes_done)} of {format_bytes(progress.bytes_total)} ({progress.fraction:.0%})"
    return f"{progress.phase}: {done}, {format_bytes(int(progress.bytes_per_s))}/s"
