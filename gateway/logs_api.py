"""GET /admin/v1/logs: what engines and parts of the service have written, and what they go on writing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse

from gateway.errors import InvalidRequest, ModelNotFound, NotFound
from gateway.leaving import Leaving
from gateway.log_sources import model_logs, part_logs, part_names
from gateway.state import State
from models.home import Home
from models.runtimes.host.log_reader import Follower, LogLine, Source, last_lines
from models.store.records import ModelRecord

MEDIA_TYPE = "application/x-ndjson"
MOST_LINES = 10_000
LOOK_EVERY_S = 0.25
LOOK_FOR_FILES_EVERY = 4  # looks
ALIVE_EVERY_S = 10.0  # a blank line, so that both ends know of each other

DOCUMENTS = (LogLine,)


@dataclass(frozen=True, slots=True)
class Asked:
    """``name``: a model's id, or a part's when ``model`` is None."""

    home: Home
    name: str
    model: ModelRecord | None
    replica: str | None
    lines: int
    since_unix_s: float | None
    follow: bool
    leaving: Leaving = field(default_factory=Leaving)

    def sources(self) -> list[Source]:
        """The files as they are now. Blocks a little."""
        if self.model is None:
            return part_logs(self.home, self.name)
        found = model_logs(self.home, self.model.model_id)
        return [source for source in found if self.replica in (None, source.name)]


def add_logs(router: APIRouter, state: State, home: Home, leaving: Leaving) -> None:
    @router.get("/logs", operation_id="logs", response_class=Response)
    async def logs(
        model: str | None = None,
        part: str | None = None,
        replica: str | None = None,
        lines: Annotated[int, Query(ge=0, le=MOST_LINES)] = 100,
        since_unix_s: Annotated[float | None, Query(ge=0)] = None,
        follow: bool = False,
    ) -> Response:
        """Lines of a model's engines, of dead ones too, or of a part of the service; one JSON object a line.

        The last ``lines`` of all replicas together in the order of time; with ``follow`` also what comes after, until
        the caller leaves. Blank lines mean nothing.
        """
        if (model is None) == (part is None):
            raise InvalidRequest("Name either a model or a part of the service.", param="model")
        found = await _model(state, model) if model is not None else None
        asked = Asked(home, model or part or "", found, replica, lines, since_unix_s, follow, leaving)
        sources = await asyncio.to_thread(asked.sources)
        if not sources and not (follow and found is not None and replica is None):
            raise await asyncio.to_thread(_nothing, asked)
        return StreamingResponse(_stream(asked, sources), media_type=MEDIA_TYPE, headers={"cache-control": "no-store"})


async def _model(state: State, name: str) -> ModelRecord:
    for record in await state.catalog():
        if name == record.model_id or name in record.aliases:
            return record
    raise ModelNotFound(name, f"The catalog has no model '{name[:200]}'. GET /admin/v1/models lists them.")


def _nothing(asked: Asked) -> NotFound:
    if asked.model is None:
        there = ", ".join(part_names(asked.home)) or "none"
        return NotFound(f"No part '{asked.name[:100]}' has a log here; there is {there}.", param="part", code="no_log")
    ids = [source.name for source in model_logs(asked.home, asked.model.model_id)]
    if ids:
        last = ", ".join(ids[-5:])
        wanted = str(asked.replica)[:200]
        message = f"'{asked.name[:200]}' has no replica '{wanted}' with a log here; the last are {last}."
        return NotFound(message, param="replica", code="replica_not_found")
    failure = asked.model.failure
    why = f" Its last start failed before there was one: {failure.message}" if failure else ""
    message = f"No engine of '{asked.model.model_id}' has written a log on this machine yet.{why}"
    return NotFound(message, param="model", code="no_log")


async def _stream(asked: Asked, sources: list[Source]) -> AsyncIterator[bytes]:
    follower = Follower()
    try:
        if asked.follow:
            follower.follow(sources, from_the_beginning=False)
        ends = follower.ends()
        yield _encode(await asyncio.to_thread(last_lines, sources, asked.lines, asked.since_unix_s, ends))
        silent_s, look = 0.0, 0
        while asked.follow and not asked.leaving.now:
            await asyncio.sleep(LOOK_EVERY_S)
            look += 1
            if look % LOOK_FOR_FILES_EVERY == 0:
                follower.follow(await asyncio.to_thread(asked.sources), from_the_beginning=True)
            new = await asyncio.to_thread(follower.new_lines)
            silent_s = 0.0 if new else silent_s + LOOK_EVERY_S
            if new:
                yield _encode(new)
            elif silent_s >= ALIVE_EVERY_S:
                silent_s = 0.0
                yield b"\n"
    finally:
        follower.close()


def _encode(lines: list[LogLine]) -> bytes:
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
