"""Takes up edits of routes.yaml and keys.yaml while the gateway runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import structlog

from gateway.standalone.watching import WatchedFile
from models.catalog.errors import ConfigError

LOOK_EVERY_S = 0.5

T = TypeVar("T")
log = structlog.get_logger(__name__)


class Edited(Generic[T]):
    """``take`` puts what was read in force, in one step on the event loop. ``wrong``: with the file as it is now."""

    def __init__(self, file: WatchedFile[T], take: Callable[[T], None], wrong: ConfigError | None = None) -> None:
        self._file = file
        self._take = take
        self.rejected = False
        if wrong is not None:
            self._reject(wrong)

    async def look(self, *, now: bool) -> None:
        if not (now or self._file.changed()):
            return
        try:
            # On a thread: a long file takes a while, and streams go on meanwhile.
            found = await asyncio.to_thread(self._file.read)
        except ConfigError as error:
            self._reject(error)
            return
        self.rejected = False
        self._take(found)

    def _reject(self, error: ConfigError) -> None:
        self.rejected = True
        problems = [str(problem) for problem in error.problems]
        log.error("an edit cannot be taken; what was in force stays", file=self._file.path.name, problems=problems)


@dataclass(slots=True)
class Reload:
    """Looks at each file every LOOK_EVERY_S; at once after ``hurry``."""

    files: tuple[Edited[Any], ...]
    _hurried: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def rejected(self) -> bool:
        return any(each.rejected for each in self.files)

    def hurry(self) -> None:
        """Somebody says that the files are ready to be read (SIGHUP)."""
        self._hurried.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._hurried.wait()
            now = self._hurried.is_set()
            self._hurried.clear()
            for each in self.files:
                await each.look(now=now)
