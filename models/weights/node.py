"""What a node's owner asks of the store when engines come and go."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from models.weights.caretaker import Caretaker
from models.weights.errors import SourceRefused
from models.weights.hub_cache import find_snapshot, users_cache
from models.weights.residence import Tier
from models.weights.store import WeightStore
from models.weights.urls import FolderUrl, HubUrl, parse_source

log = logging.getLogger("roundhouse.weights")


class NodeWeights:
    """Gives each engine its layout folder, and looks after the store beside that."""

    def __init__(self, root: Path) -> None:
        self.store = WeightStore(root)
        self._caretaker = Caretaker(self.store)

    def open(self) -> NodeWeights:
        self._caretaker.open()
        return self

    def close(self) -> None:
        self._caretaker.close()

    def prepare(self, engine: str, source: str) -> str:
        """The layout folder of an engine that is about to start from ``source``; "" where it can have none.

        Raises WeightsError for weights that are known to be damaged.
        """
        try:
            layout = self.store.prepare(engine, Path(source))
        except OSError as problem:  # a store that cannot be written costs speed, not the model
            log.warning("%s starts without a layout: %s", engine, problem)
            return ""
        return "" if layout is None else str(layout)

    def running(self, engine: str, pid: int, source: str) -> None:
        """It is ready: its own process holds what it needs from now on, and the disk has time for other things."""
        try:
            self.store.uses.hand_over(engine, pid)
        except OSError as problem:
            log.warning("what %s needs is not held: %s", engine, problem)
        self._caretaker.learn(Path(source))

    def ended(self, engine: str) -> None:
        try:
            self.store.uses.release(engine)
        except OSError as problem:  # it ends with its process all the same
            log.warning("what %s needed is still held: %s", engine, problem)

    def tiers(self, sources: Mapping[str, str]) -> dict[str, Tier]:
        """Model -> where a start on this node would find its weights now. ``sources``: model -> source by its whole
        name."""
        return {model: self._tier(source) for model, source in sources.items()}

    def _tier(self, source: str) -> Tier:
        folder = self.store.find(source)
        if folder is None:
            try:
                url = parse_source(source, Path("/"))
            except SourceRefused:
                return "remote"
            if isinstance(url, HubUrl):
                folder = find_snapshot(users_cache(os.environ), url)
            elif isinstance(url, FolderUrl):
                folder = url.folder
        return "remote" if folder is None else self.store.where(folder).tier
