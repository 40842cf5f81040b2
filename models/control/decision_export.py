"""Writes the stream of decisions to a file as it grows, beside the loop: nobody waits for it.

It reads what is in the store and goes on where the file ends: over restarts of the controller and of the store nothing
is missing and nothing is there twice, as long as the stream still has it (the last 10,000 decisions).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from models.catalog.service import DecisionSettings
from models.control.decision_file import DecisionFile
from models.store.keys import Keys
from models.store.records import DecisionRecord

log = logging.getLogger("roundhouse.control")
LOOK_EVERY_S = 1.0
PAGE = 500


class DecisionExport:
    """``folder``: paths in the configuration are relative to it."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        folder: Path,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._folder = folder
        self._sleep = sleep
        self._settings: DecisionSettings | None = None
        self._file: DecisionFile | None = None
        self._after: str | None = None  # None: the file has to be looked at
        self._problem = ""

    def configure(self, settings: DecisionSettings) -> None:
        """As it is written now; may be called at any time."""
        if settings == self._settings:
            return
        self._settings, self._after = settings, None
        path = settings.export
        self._file = None if path is None else DecisionFile(self._folder / path, settings.rotate, settings.keep)

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                await self.look()
            except Exception:  # the edge of a loop that ends with the controller: it is no reason for that to end
                log.exception("decisions cannot be written to a file now; it is tried again")
            await self._sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Write what has been decided since the last time. What cannot be written now is written later."""
        file = self._file
        if file is None:
            return
        try:
            await self._write(file)
        except (OSError, RedisError) as problem:
            text = f"decisions cannot be written to {file.path} now: {problem}"
            if text != self._problem:
                log.warning("%s", text)
            self._problem = text
        else:
            if self._problem:
                log.info("decisions are written to %s again", file.path)
            self._problem = ""

    async def _write(self, file: DecisionFile) -> None:
        after = self._after
        if after is None:
            after = await asyncio.to_thread(file.last)
        while file is self._file:
            entries: Any = await self._redis.xrange(self._keys.decisions, min=f"({after}", count=PAGE)
            if entries:
                await asyncio.to_thread(file.append, [found for entry in entries if (found := _record(*entry))])
                after = entries[-1][0].decode()
            if file is self._file:
                self._after = after
            if len(entries) < PAGE:
                return


def _record(entry_id: bytes, fields: dict[bytes, bytes]) -> DecisionRecord | None:
    """None for what is no decision: whoever wrote it there, it does not keep others from being written."""
    try:
        record = msgspec.json.decode(fields.get(b"d", b""), type=DecisionRecord)
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        log.warning("entry %s of the stream of decisions is left out: %s", entry_id.decode(), problem)
        return None
    return msgspec.structs.replace(record, id=entry_id.decode())
