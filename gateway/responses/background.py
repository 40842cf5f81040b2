"""Responses that are made while nobody is connected: by the worker that was asked, or by another when that one dies.

A worker holds each of its jobs for a few seconds at a time. A job whose time is over is anybody's: what a dead worker
had begun is begun again. However often that happens, the first to finish is the one whose answer counts.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.asking import Ask, Failure
from gateway.attempts import Attempts
from gateway.clock import Clock
from gateway.ending import end
from gateway.errors import Forbidden, GatewayError, HoldQueueFull
from gateway.inquiry import ORDINARY, Caller
from gateway.responses import kept as states
from gateway.responses.records import Job, KeptResponse
from gateway.responses.shelf import Responses
from gateway.state import asking_redis
from models.store.codec import decode, encode
from models.store.errors import StoreError
from models.store.keys import Keys

PATH = "/v1/responses"
LEASE_S = 5.0
LOOK_EVERY_S = 0.5
AT_ONCE = 256  # in one worker; more wait for any worker
MOST_TRIES = 3  # a job that ends its workers is not tried for ever
LONGEST_S = 3600.0
RETRY_S, LONGEST_RETRY_S = 1.0, 10.0
_DOWN = (RedisError, OSError, TimeoutError, StoreError, GatewayError)
# KEYS: jobs, orders. ARGV: name, now, until. The order, when the job was nobody's and is ours now.
_CLAIM = """
local until_s = redis.call('zscore', KEYS[1], ARGV[1])
if not until_s or tonumber(until_s) > tonumber(ARGV[2]) then return nil end
redis.call('zadd', KEYS[1], ARGV[3], ARGV[1])
return redis.call('hget', KEYS[2], ARGV[1])
"""

log = structlog.get_logger(__name__)


class TooManyInBackground(HoldQueueFull):
    code = "too_many_background_responses"


class Background:
    """``caller_of``: on whose behalf, by the key's id; None when the key works no more."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        responses: Responses,
        clock: Clock,
        ask: Ask,
        caller_of: Callable[[str], Awaitable[Caller | None]],
    ) -> None:
        self._redis, self._keys, self._responses, self._clock = redis, keys, responses, clock
        self._caller_of = caller_of
        self._attempts = Attempts(ask, RETRY_S, LONGEST_RETRY_S, ORDINARY)
        self._claim = redis.register_script(_CLAIM)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._owners: Counter[str] = Counter()

    async def add(self, job: Job, queued: KeptResponse) -> None:
        """Raises TooManyInBackground, InvalidRequest (too large to be kept), StoreUnavailable."""
        if self._owners[job.owner] >= self._responses.limits.background:
            message = "Too many responses of this API key are being made in the background; wait for some of them."
            raise TooManyInBackground(message, retry_after_s=5)
        await self._responses.put(job.owner, queued)
        ours = len(self._tasks) < AT_ONCE
        now_s = self._clock.unix()
        async with asking_redis(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(self._keys.response_orders, _name(job), encode(job))
            pipe.zadd(self._keys.response_jobs, {_name(job): now_s + LEASE_S if ours else now_s})
            await pipe.execute()
        if ours:
            self._begin(job)

    async def cancel(self, owner: str, response_id: str) -> KeptResponse | None:
        """As it is then; None when it had ended already. Its place in the engine is free within a second."""
        changed = await self._responses.change(owner, response_id, states.cancelled)
        await self.drop(owner, response_id)
        return changed

    async def drop(self, owner: str, response_id: str) -> None:
        """Nobody works on it any more."""
        name = f"{owner}/{response_id}"
        async with asking_redis():
            await self._forget(name)
        task = self._tasks.get(name)
        if task is not None:
            task.cancel()

    async def run(self) -> None:
        """Until it is cancelled; then others may go on with what this worker had begun."""
        try:
            while True:
                with contextlib.suppress(*_DOWN):  # the store is away; others tell about that
                    await self._renew()
                    await self._take_over()
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            names = list(self._tasks)
            await end(self._tasks.values())
            with contextlib.suppress(*_DOWN):
                async with asking_redis():
                    if names:
                        await self._redis.zadd(self._keys.response_jobs, dict.fromkeys(names, 0.0), xx=True)

    async def _renew(self) -> None:
        names = list(self._tasks)
        if not names:
            return
        until_s = self._clock.unix() + LEASE_S
        async with asking_redis(), self._redis.pipeline(transaction=True) as pipe:
            pipe.zadd(self._keys.response_jobs, dict.fromkeys(names, until_s), xx=True)
            pipe.zmscore(self._keys.response_jobs, names)
            _, scores = await pipe.execute()
        for name, score in zip(names, scores, strict=True):
            task = self._tasks.get(name)
            if score is None and task is not None:  # cancelled, through another worker
                task.cancel()

    async def _take_over(self) -> None:
        room = AT_ONCE - len(self._tasks)
        now_s = self._clock.unix()
        jobs = self._keys.response_jobs
        async with asking_redis():
            free: Any = await self._redis.zrange(jobs, "-inf", now_s, byscore=True, offset=0, num=max(1, room))
        for found in free[:room]:
            name = found.decode()
            async with asking_redis():
                args = [name, now_s, now_s + LEASE_S]
                order = await self._claim(keys=[jobs, self._keys.response_orders], args=args)
            if order is not None and name not in self._tasks:
                log.info("a response is begun again", response=name.partition("/")[2])
                self._begin(decode(order, Job, "a background response"))

    def _begin(self, job: Job) -> None:
        name = _name(job)
        self._owners[job.owner] += 1
        self._tasks[name] = task = asyncio.get_running_loop().create_task(self._work(job))
        task.add_done_callback(lambda _: self._ended(name, job.owner))

    def _ended(self, name: str, owner: str) -> None:
        del self._tasks[name]
        self._owners[owner] -= 1
        if not self._owners[owner]:
            del self._owners[owner]

    async def _work(self, job: Job) -> None:
        try:
            if not await self._tried(job):
                return
            result = await self._ask(job)
            await self._responses.change(
                job.owner, job.id, lambda kept: states.failed(kept, *result) if isinstance(result, tuple)
                else states.finished(kept, result)
            )  # fmt: skip
            async with asking_redis():
                await self._forget(_name(job))
        except _DOWN as down:  # its time runs out, and it is begun again
            log.warning("a background response is interrupted", response=job.id, reason=type(down).__name__)

    async def _tried(self, job: Job) -> bool:
        """Whether it is to be tried. Raises StoreUnavailable."""
        job = msgspec.structs.replace(job, tries=job.tries + 1)
        if job.tries > MOST_TRIES:
            message = "The server ended several times while it made this response."
            await self._responses.change(job.owner, job.id, lambda kept: states.failed(kept, 500, message))
        elif await self._responses.change(job.owner, job.id, states.begun) is not None:
            async with asking_redis():
                await self._redis.hset(self._keys.response_orders, _name(job), encode(job))
            return True
        async with asking_redis():
            await self._forget(_name(job))
        return False

    async def _ask(self, job: Job) -> bytes | tuple[int, str]:
        """The engine's answer, or what to tell instead. Raises StoreUnavailable."""
        try:
            caller = await self._caller_of(job.owner)
        except Forbidden as blocked:
            return 403, blocked.message
        if caller is None:
            return 401, "The API key that asked for this response works no more."
        try:
            async with asyncio.timeout(LONGEST_S):
                answer = await self._attempts.ask(PATH, bytes(job.body), caller)
        except TimeoutError:
            return 503, f"It was not done within {LONGEST_S:g} s."
        if isinstance(answer, Failure):
            return 500, answer.message
        return answer.body if answer.status < 400 else (answer.status, _message(answer.body))

    async def _forget(self, name: str) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.zrem(self._keys.response_jobs, name)
            pipe.hdel(self._keys.response_orders, name)
            await pipe.execute()


class _Inner(msgspec.Struct):
    message: str


class _Error(msgspec.Struct):
    error: _Inner


def _message(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Error).error.message
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "The request failed."


def _name(job: Job) -> str:
    return f"{job.owner}/{job.id}"
