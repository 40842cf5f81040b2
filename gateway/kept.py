"""Wiring of what is kept for callers: responses, files, batches. A gateway on its own has none: it takes Redis."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway.asking import Ask
from gateway.batches import records as batch_records
from gateway.batches.desk import Desk
from gateway.batches.keyring import Keyring
from gateway.batches.room import Room
from gateway.batches.run import Pace, Tools
from gateway.batches.store import BatchStore
from gateway.ending import end
from gateway.endpoints import Endpoint
from gateway.files import records as file_records
from gateway.files.cabinet import Cabinet, FileLimits
from gateway.files.disk import Disk
from gateway.inquiry import Peek
from gateway.later import Later
from gateway.peek import peek
from gateway.plane import inprocess
from gateway.plane.outlet import Extension
from gateway.plane.plane import Plane
from gateway.responses import records as response_records
from gateway.responses.background import Background
from gateway.responses.extension import ENDPOINT, ResponsesExtension
from gateway.responses.shelf import ResponseLimits, Responses
from gateway.settings import Limits
from gateway.state import State
from models.home import Home
from models.store.keys import BATCH_LEASE_S, Keys
from models.store.lease import Lease
from models.store.records import ModelRoute

if TYPE_CHECKING:
    from redis.asyncio import Redis

DOCUMENTS = (*response_records.DOCUMENTS, *file_records.DOCUMENTS, *batch_records.DOCUMENTS)
SETTLE_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptLimits:
    """How much is kept for callers, for how long, and at which pace batches are worked off."""

    files: FileLimits = field(default_factory=FileLimits)
    responses: ResponseLimits = field(default_factory=ResponseLimits)
    pace: Pace = field(default_factory=Pace)

    @classmethod
    def within(cls, limits: Limits) -> KeptLimits:
        """With the sizes that hold for the whole gateway."""
        return cls(
            files=FileLimits(upload_bytes=limits.upload_bytes),
            responses=ResponseLimits(input_bytes=limits.max_body_bytes),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptParts:
    """What a worker gives. ``find``: the route of a model, by any of its names."""

    redis: Redis
    keys: Keys
    home: Home
    worker: str
    find: Callable[[str], ModelRoute | None]
    limits: KeptLimits


def mount(plane: Plane, control: Later, parts: KeptParts) -> Kept:
    """Let a worker have all of it. Its paths are there once the control application is."""
    kept = Kept(plane, parts)

    def include(app: Any) -> None:
        from gateway import kept_api

        kept_api.include(app, kept, plane.authenticator, plane.guard)

    control.then(include)
    plane.extensions = {**plane.extensions, **kept.extensions}
    within = plane.lifespan

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with within():
            tasks = kept.tasks()
            try:
                yield
            finally:
                await end(tasks)
                await kept.settle()

    plane.lifespan = lifespan
    return kept


class Kept:
    """``extensions``: for the data plane."""

    def __init__(self, plane: Plane, parts: KeptParts) -> None:
        redis, keys, clock, limits = parts.redis, parts.keys, plane.clock, parts.limits
        ask: Ask = partial(inprocess.ask, plane)
        hosts = frozenset(plane.limits.media_hosts)

        def look(body: bytes, endpoint: Endpoint) -> Peek:
            return peek(body, endpoint, plane.caps, hosts)

        self.clock = clock
        self.responses = Responses(redis, keys, clock, limits.responses)
        caller_of = Keyring(redis, keys, clock, plane.accounts).caller_of
        self.background = Background(redis, keys, self.responses, clock, ask, caller_of)
        self.extensions: dict[str, Extension] = {
            ENDPOINT: ResponsesExtension(self.responses, self.background, clock, look)
        }
        self.cabinet = Cabinet(redis, keys, Disk(parts.home.root / "files"), clock, limits.files)
        self.batches = BatchStore(redis, keys, parts.home.root / "batches", clock)
        tools = Tools(
            store=self.batches,
            cabinet=self.cabinet,
            room=Room(parts.find, State(redis, keys).demand, clock.monotonic),
            ask=ask,
            caller_of=caller_of,
            clock=clock,
            token=parts.worker,
            write=os.write,
            line_bytes=plane.limits.max_body_bytes,
            pace=limits.pace,
        )
        self.desk = Desk(tools, lambda: Lease(redis, keys.batch_lease(self.batches.place), parts.worker, BATCH_LEASE_S))

    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        """What goes on in a worker, to be cancelled when it ends."""
        return asyncio.create_task(self.background.run()), asyncio.create_task(self.desk.run())

    async def settle(self) -> None:
        """The answers that were given last are still being kept."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                await self.responses.settle()
