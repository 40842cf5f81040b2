"""Looks at the nodes every few seconds, beside the loop: what engines hold, where weights are, which files changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from models.catalog.card import ModelCard
from models.catalog.source import SourceError
from models.control.catalog import Entry
from models.control.content import fingerprint
from models.control.messages import ContentChanged, Looked, Message
from models.control.tracked import Tracked
from models.control.world import World
from models.fleet.protocol import Fleet, NodeLook
from packers.types import ModelId, NodeId, ReplicaId, ReplicaState

log = logging.getLogger("roundhouse.control")
LOOK_EVERY_S = 5.0
AGAIN_AFTER_S = 60.0  # an engine that nobody uses is measured so often
Post = Callable[[Message], None]


class Onlooker:
    """Reads the world, changes nothing in it: whatever is found is posted.

    ``inspect``: raises SourceError while a card's source cannot be served. ``content``: tells whether files changed.
    ``clock``: the loop's.
    """

    def __init__(
        self,
        world: World,
        fleet: Fleet,
        post: Post,
        *,
        inspect: Callable[[ModelCard], object],
        clock: Callable[[], float],
        content: Callable[[Path], str] = fingerprint,
    ) -> None:
        self._world = world
        self._fleet = fleet
        self._post = post
        self._inspect = inspect
        self._clock = clock
        self._content = content
        self._measured_s: dict[ReplicaId, float] = {}

    async def run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("the nodes could not be looked at; the next look is in %.0f s", LOOK_EVERY_S)
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        views = await self._fleet.look(self._asked())
        if views:
            self._post(Looked(views))
        for model in await asyncio.to_thread(self._changed, self._waiting()):
            self._post(ContentChanged(model))

    def _asked(self) -> dict[NodeId, NodeLook]:
        now, due = self._clock(), [tracked for tracked in self._world.replicas.values() if self._is_due(tracked)]
        self._measured_s = {one: at_s for one, at_s in self._measured_s.items() if one in self._world.replicas}
        self._measured_s.update({tracked.id: now for tracked in due})
        entries = self._world.entries
        sources = {str(model): named for model, entry in entries.items() if (named := entry.source or entry.folder)}
        return {
            node: NodeLook(engines=tuple(tracked.control for tracked in due if tracked.node == node), sources=sources)
            for node in self._world.nodes
        }

    def _is_due(self, tracked: Tracked) -> bool:
        """What an engine holds changes while it works; asleep it does nothing."""
        if tracked.state is not ReplicaState.READY:
            return False
        measured_s = self._measured_s.get(tracked.id, 0.0)
        return max(tracked.last_used_s, tracked.ready_since_s) >= measured_s or (
            self._clock() - measured_s >= AGAIN_AFTER_S
        )

    def _waiting(self) -> dict[ModelId, tuple[Entry, str | None]]:
        """Models that only a change of their files can help -> those files as they were, None where none were read."""
        entries = self._world.entries
        failed = {
            model: (entries[model], was) for model, was in self._world.failures.lasting().items() if model in entries
        }
        broken: dict[ModelId, tuple[Entry, str | None]] = {
            model: (entry, None) for model, entry in entries.items() if not entry.folder
        }
        return {**broken, **failed}

    def _changed(self, waiting: dict[ModelId, tuple[Entry, str | None]]) -> list[ModelId]:
        return [model for model, (entry, was) in waiting.items() if self._differs(entry, was)]

    def _differs(self, entry: Entry, was: str | None) -> bool:
        if was is not None and entry.folder:
            return self._content(Path(entry.folder)) != was
        try:
            self._inspect(entry.card)
        except SourceError:
            return False
        return not entry.folder
