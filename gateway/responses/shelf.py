"""Kept responses in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from redis.asyncio import Redis

from gateway.clock import Clock
from gateway.errors import Conflict, InvalidRequest, NotFound, StoreUnavailable
from gateway.responses.records import ACTIVE, KeptResponse, is_response_id
from gateway.state import asking_redis
from models.store.keys import Keys
from models.store.shelf import Quota, Shelf, ShelfFull

KIND = "responses"
# One that another worker has just answered may still be on its way to Redis.
LOOK_AGAIN_S = (0.03, 0.1)
WRITE_AGAIN_S = (0.1, 0.5, 2.0, 5.0)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ResponseLimits:
    """``kept_s``: since a response was last used. ``one_bytes``: of one; what is larger is not kept. ``owner_bytes``,
    ``owner_responses``: of one API key; those unused for the longest time make room. ``turns``: of a conversation;
    ``input_bytes``: of all that an engine gets. ``background``: unfinished ones of one API key in one worker.
    """

    kept_s: float = 7 * 86_400.0
    one_bytes: int = 4 << 20
    owner_bytes: int = 64 << 20
    owner_responses: int = 10_000
    turns: int = 1000
    input_bytes: int = 8 << 20
    background: int = 64
    waiting_bytes: int = 64 << 20  # of responses that Redis could not be told of yet


class Responses:
    """What was answered is found at once in this worker, and a moment later in all."""

    def __init__(self, redis: Redis, keys: Keys, clock: Clock, limits: ResponseLimits) -> None:
        self.limits, self._clock = limits, clock
        quota = Quota(limits.owner_responses, limits.owner_bytes, drop_oldest=True)
        self._shelf = Shelf(redis, keys, KIND, KeptResponse, quota, clock.unix)
        self._waiting: dict[tuple[str, str], KeptResponse] = {}  # not in Redis yet
        self._waiting_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def keep(self, owner: str, kept: KeptResponse) -> None:
        """Without waiting for it. What cannot be kept is logged: its caller has the answer already."""
        size_bytes = _size(kept)
        if size_bytes > self.limits.one_bytes:
            log.warning("a response is too large to be kept", response=kept.id, size_bytes=size_bytes)
        elif self._waiting_bytes + size_bytes > self.limits.waiting_bytes:
            log.error("a response is not kept: too many wait for redis", response=kept.id)
        else:
            self._waiting[owner, kept.id] = kept
            self._waiting_bytes += size_bytes
            task = asyncio.get_running_loop().create_task(self._write(owner, kept, size_bytes))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def put(self, owner: str, kept: KeptResponse) -> None:
        """Raises InvalidRequest when it is too large, StoreUnavailable."""
        try:
            async with asking_redis():
                await self._shelf.put(owner, kept.id, kept, order=self._clock.unix(), ttl_s=self.limits.kept_s)
        except ShelfFull as full:
            raise InvalidRequest("The request is too large to be kept.", param="input") from full

    async def find(self, owner: str, response_id: str) -> KeptResponse:
        """Raises NotFound, StoreUnavailable."""
        found = await self._find(owner, response_id)
        if found is None:
            raise NotFound(
                f"Response with id '{response_id[:100]}' not found.", param="response_id", code="response_not_found"
            )
        return found

    async def turns(self, owner: str, response_id: str) -> list[KeptResponse]:
        """The conversation that ends with this response, oldest first; all of it is kept on from now.

        Raises InvalidRequest, Conflict (it is not done), StoreUnavailable.
        """
        last = await self._find(owner, response_id)
        if last is None:
            raise self._no_previous(response_id)
        if last.status in ACTIVE:
            message = f"The response '{last.id}' is not done; wait for it before you continue from it."
            raise Conflict(message, param="previous_response_id", code="previous_response_not_ready")
        if len(last.ancestors) >= self.limits.turns:
            message = f"A conversation has at most {self.limits.turns} turns here; begin a new one."
            raise InvalidRequest(message, param="previous_response_id", code="conversation_too_long")
        turns = [*(await self.ancestors(owner, last)), last]
        async with asking_redis():
            await self._shelf.touch(owner, [kept.id for kept in turns], self._clock.unix(), self.limits.kept_s)
        return turns

    async def ancestors(self, owner: str, kept: KeptResponse) -> list[KeptResponse]:
        """Raises InvalidRequest when one was deleted, StoreUnavailable."""
        async with asking_redis():
            found = await self._shelf.get_many(owner, kept.ancestors)
        turns = []
        for turn_id, turn in zip(kept.ancestors, found, strict=True):
            turn = turn or await self._find(owner, turn_id)
            if turn is None:
                raise self._no_previous(turn_id)
            turns.append(turn)
        return turns

    async def change(
        self, owner: str, response_id: str, change: Callable[[KeptResponse], KeptResponse | None]
    ) -> KeptResponse | None:
        """As ``Shelf.change``. Raises StoreUnavailable."""
        async with asking_redis():
            return await self._shelf.change(owner, response_id, change, ttl_s=self.limits.kept_s)

    async def remove(self, owner: str, response_id: str) -> None:
        """Raises StoreUnavailable."""
        self._waiting.pop((owner, response_id), None)
        async with asking_redis():
            await self._shelf.remove(owner, response_id)

    async def settle(self) -> None:
        """Until all that was to be kept is, or cannot be."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _find(self, owner: str, response_id: str) -> KeptResponse | None:
        if not is_response_id(response_id):
            return None
        for wait_s in (0.0, *LOOK_AGAIN_S):
            await asyncio.sleep(wait_s)
            waiting = self._waiting.get((owner, response_id))
            if waiting is not None:
                return waiting
            async with asking_redis():
                found = await self._shelf.get(owner, response_id)
            if found is not None:
                return found
        return None

    async def _write(self, owner: str, kept: KeptResponse, size_bytes: int) -> None:
        name = (owner, kept.id)
        try:
            for wait_s in (0.0, *WRITE_AGAIN_S):
                await asyncio.sleep(wait_s)
                if self._waiting.get(name) is not kept or await self._written(owner, kept):
                    break
            else:
                log.error("a response is lost: redis does not answer", response=kept.id)
        finally:
            self._waiting_bytes -= size_bytes
            if self._waiting.get(name) is kept:
                del self._waiting[name]

    async def _written(self, owner: str, kept: KeptResponse) -> bool:
        """Whether there is nothing left to do."""
        try:
            await self.put(owner, kept)
            if (owner, kept.id) not in self._waiting:  # deleted while it was being written
                await self.remove(owner, kept.id)
        except StoreUnavailable:
            return False
        except InvalidRequest:
            log.warning("a response is larger than what may be kept", response=kept.id)
        return True

    def _no_previous(self, response_id: str) -> InvalidRequest:
        message = f"Previous response with id '{response_id[:100]}' not found."
        return InvalidRequest(message, param="previous_response_id", code="previous_response_not_found")


def _size(kept: KeptResponse) -> int:
    return len(kept.response) + sum(len(item) for item in kept.input)
