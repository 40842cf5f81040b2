"""Redis away, workers dead: answers are given all the same, and what was begun in the background is not forgotten."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest

from gateway.clock import Clock
from gateway.ending import end
from gateway.inquiry import Caller
from gateway.responses import kept as states
from gateway.responses.background import LEASE_S, MOST_TRIES, Background
from gateway.responses.records import Job, KeptResponse, new_response_id
from gateway.responses.shelf import ResponseLimits, Responses
from models.store.client import connect_async
from models.store.codec import encode
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from tests.gateway.batches.bench import Spoken
from tests.gateway.kept_world import KeptWorld
from tests.gateway.world import until, until_async

pytestmark = pytest.mark.anyio


@pytest.fixture
async def own(sockets: Path, keys: Keys) -> AsyncIterator[tuple[KeptWorld, EmbeddedRedis]]:
    """A world with a server of its own, to be stopped by the test."""
    with EmbeddedRedis() as server:
        redis = connect_async(server.url)
        world = KeptWorld(redis, server.url, keys, sockets)
        try:
            await world.talking()
            await world.begin()
            await world.route(world.model("m", "m-1"))
            yield world, server
        finally:
            if server.pid is not None:
                os.kill(server.pid, signal.SIGCONT)
            await world.stop()
            await redis.aclose()


async def test_with_redis_silent_answers_are_given_and_kept_once_it_is_back(
    own: tuple[KeptWorld, EmbeddedRedis],
) -> None:
    world, server = own
    assert server.pid is not None
    async with world.api() as api:
        first = await api.responses.create(model="m", input="one")
        os.kill(server.pid, signal.SIGSTOP)
        second = await api.responses.create(model="m", input="two")
        assert second.output_text == "1: two"
        assert (await api.responses.retrieve(second.id)).id == second.id, "this worker still has it"
        with pytest.raises(openai.InternalServerError) as refused:
            await api.responses.create(model="m", input="three", previous_response_id=first.id)
        assert (refused.value.status_code, refused.value.code) == (503, "store_unavailable")
        os.kill(server.pid, signal.SIGCONT)

        async def continued() -> bool:
            try:
                third = await api.responses.create(model="m", input="three", previous_response_id=second.id)
            except openai.InternalServerError:
                return False
            return third.output_text == "3: two | 1: two | three"

        assert await until_async(continued)


class Bench:
    """Two workers' background parts on one store; ``ask`` waits until it is told to answer."""

    def __init__(self, redis_server: EmbeddedRedis, keys: Keys) -> None:
        self.redis = connect_async(redis_server.url)
        self.keys, self.now_s = keys, 1000.0
        self.asked: list[str] = []
        self.answer = asyncio.Event()
        self.clock = Clock(unix=lambda: self.now_s)
        self.responses = Responses(self.redis, keys, self.clock, ResponseLimits())

    def worker(self, name: str) -> Background:
        async def ask(path: str, body: bytes, caller: Caller, *, priority: int) -> Spoken:
            self.asked.append(name)
            await self.answer.wait()
            return Spoken(
                200, b'{"id": "resp_engine", "status": "completed", "output": [], "by": "%b"}' % name.encode()
            )

        async def caller_of(key_id: str) -> Caller | None:
            return Caller("default", key_id=key_id)

        return Background(self.redis, self.keys, self.responses, self.clock, ask, caller_of)

    async def order(self, background: Background) -> str:
        queued = states.queued(new_response_id(), {}, (), (), self.now_s)
        await background.add(self.job(queued), queued)
        return queued.id

    def job(self, queued: KeptResponse, tries: int = 0) -> Job:
        return Job(id=queued.id, owner="ann", body=queued.response, tries=tries)

    async def status(self, response_id: str) -> str:
        return (await self.responses.find("ann", response_id)).status


@pytest.fixture
async def bench(redis_server: EmbeddedRedis, keys: Keys) -> AsyncIterator[Bench]:
    bench = Bench(redis_server, keys)
    yield bench
    await bench.redis.aclose()


async def test_what_a_dead_worker_had_begun_is_begun_again_when_its_time_is_over(bench: Bench) -> None:
    dead, alive = bench.worker("dead"), bench.worker("alive")  # the first one never renews what it has
    response_id = await bench.order(dead)
    await until(lambda: bench.asked == ["dead"])
    running = asyncio.create_task(alive.run())
    await asyncio.sleep(0)
    await alive._take_over()
    assert bench.asked == ["dead"], "its time is not over"
    bench.now_s += LEASE_S + 1
    await until(lambda: bench.asked == ["dead", "alive"])
    bench.answer.set()

    async def completed() -> bool:
        return await bench.status(response_id) == "completed"

    await until_async(completed)
    assert await bench.redis.zcard(bench.keys.response_jobs) == 0
    assert await bench.redis.hlen(bench.keys.response_orders) == 0
    await end([running])


async def test_two_takers_of_one_job(bench: Bench) -> None:
    dead, one, other = bench.worker("dead"), bench.worker("one"), bench.worker("other")
    await bench.order(dead)
    await until(lambda: bench.asked == ["dead"])
    bench.now_s += LEASE_S + 1
    await asyncio.gather(one._take_over(), other._take_over())
    await until(lambda: len(bench.asked) == 2)
    assert sorted(bench.asked)[0] == "dead"
    bench.answer.set()


async def test_one_who_lives_keeps_what_it_has(bench: Bench) -> None:
    one, other = bench.worker("one"), bench.worker("other")
    response_id = await bench.order(one)
    running = [asyncio.create_task(background.run()) for background in (one, other)]
    for _ in range(3):
        await one._renew()
        bench.now_s += LEASE_S - 1
        await asyncio.sleep(0.05)
    assert bench.asked == ["one"]
    bench.answer.set()

    async def completed() -> bool:
        return await bench.status(response_id) == "completed"

    await until_async(completed)
    await end(running)


async def test_a_job_that_ends_its_workers_is_given_up(bench: Bench) -> None:
    background = bench.worker("one")
    queued = states.queued(new_response_id(), {}, (), (), bench.now_s)
    await bench.responses.put("ann", queued)
    job = bench.job(queued, tries=MOST_TRIES)
    await bench.redis.hset(bench.keys.response_orders, f"ann/{job.id}", encode(job))
    await bench.redis.zadd(bench.keys.response_jobs, {f"ann/{job.id}": 0})
    await background._take_over()

    async def failed() -> bool:
        return await bench.status(job.id) == "failed"

    await until_async(failed)
    assert bench.asked == []
    assert await bench.redis.zcard(bench.keys.response_jobs) == 0
