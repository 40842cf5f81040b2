"""A model's folder before each start: checked anew, and fetched first where that is allowed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
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
from models.weights.child import fetch_in_child
from models.weights.errors import WeightsError
from models.weights.records import Progress
from models.weights.store import WeightStore
from packers.types import ModelId

log = logging.getLogger("roundhouse.control")
TELL_EVERY_S = 1.0
Fetch = Callable[[Path, str, Callable[[Progress], None]], Awaitable[Path]]


class SourceDesk:
    """``post``: to the loop's inbox."""

    def __init__(
        self,
        reader: CatalogReader,
        *,
        post: Callable[[Message], None],
        fetch: Fetch = fetch_in_child,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._allowed = False
        self._post = post
        self._fetch = fetch
        self._clock = clock

    def configure(self, weights: WeightsSettings) -> None:
        """From now on, for the store and for starts."""
        self._allowed = weights.download
        try:
            WeightStore(self._reader.cache_dir).configure(weights.settings())
        except OSError as problem:
            log.warning("the quota of the weights could not be written down: %s", problem)

    async def check(self, card: ModelCard) -> Source:
        """Raises SourceError. Weights that are not declared are not fetched by a start: it has reserved no memory."""
        try:
            return await asyncio.to_thread(self._look, card)
        except SourceNotHere as problem:
            if not self._allowed:
                raise
            if card.declared.weights is None:
                cure = "or declare how large they are, and a start fetches them: declared: {weights: 16GiB}"
                raise SourceNotHere(f"{str(problem).removesuffix('.')}, {cure}.") from None
        await self._bring(card)
        return await asyncio.to_thread(self._look, card)

    def _look(self, card: ModelCard) -> Source:
        folder, _ = self._reader.inspect(card)
        adapters = adapter_folders(card, self._reader.config_dir)
        content = "".join(map(fingerprint, (folder, *adapters.values())))
        return Source(folder, content, {name: str(path) for name, path in adapters.items()})

    async def _bring(self, card: ModelCard) -> None:
        model, told_s = ModelId(card.model_id), float("-inf")

        def tell(progress: Progress) -> None:
            nonlocal told_s
            if self._clock() - told_s >= TELL_EVERY_S:
                told_s = self._clock()
                self._post(Fetching(model, said(progress)))

        log.info("fetching %s for %s", card.model_source, model)
        try:
            await self._fetch(self._reader.cache_dir, card.model_source, tell)
        except WeightsError as problem:
            raise SourceError(
                f"Model {card.model_id!r} cannot be started from {card.model_source}: {problem}."
            ) from problem
        self._post(ContentChanged(model))


def said(progress: Progress) -> str:
    """How far it is, for people: ``downloading: 3.2 GiB of 16 GiB (20%), 340 MiB/s``."""
    if not progress.bytes_total:
        return f"{progress.phase}: its weights are fetched"
    done = f"{format_bytes(progress.bytes_done)} of {format_bytes(progress.bytes_total)} ({progress.fraction:.0%})"
    return f"{progress.phase}: {done}, {format_bytes(int(progress.bytes_per_s))}/s"
