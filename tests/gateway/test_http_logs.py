"""Logs over HTTP: of models whose engines live, died or never were, and of parts of the service."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from models.runtimes.host.engine_log import LogHead
from models.store.codec import encode
from models.store.records import Failure
from tests.gateway.test_http_admin import ask, card
from tests.gateway.world import World

pytestmark = pytest.mark.anyio


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as log:
        log.write(text)


def engine_log(world: World, replica: str, model: str = "org/m", started_s: float = 1.0) -> Path:
    path = world.home.engine_logs / f"{replica}.log"
    head = LogHead(replica_id=replica, model_id=model, runtime="vllm", pid=7, started_unix_s=started_s)
    write(path, head.line().decode())
    return path


@pytest.fixture
async def logged(world: World) -> World:
    """org/m (also called alias) had two replicas, n none, o failed before it had one."""
    failure = Failure(message="No weights.", code="model_start_failed", at_unix_s=1.0, retry_at_unix_s=2.0)
    await world.redis.set(world.keys.catalog, encode((card("org/m", "alias"), card("n"), card("o", failure=failure))))
    write(engine_log(world, "m-1"), "2026-01-01 10:00:00,000 dies\n")
    write(engine_log(world, "m-2", started_s=2.0), "2026-01-01 11:00:00,000 lives\n")
    write(world.home.logs / "gateway.log", '{"event": "listening"}\n')
    write(world.home.logs / "control.log", "controller ready, pid 5\n")
    session = world.home.ray / "session_latest" / "logs"
    write(session / "worker-1-2-5.err", "2026-01-01 10:00:00,000 roundhouse.control INFO decided\n")
    write(session / "worker-1-2-6.err", "another actor\n")
    return world


async def read(world: World, query: str) -> list[dict[str, Any]]:
    url = f"/admin/v1/logs?{query}"
    async with world.client() as session, session.get(url, headers=world.admin_headers) as answer:
        assert answer.status == 200, await answer.text()
        return [json.loads(line) async for line in answer.content if line.strip()]


def said(lines: list[dict[str, Any]]) -> list[str]:
    return [line["text"].split(" ", 2)[-1] for line in lines if not line["text"].startswith("--")]


@pytest.mark.parametrize("name", ["org/m", "alias"])
async def test_all_replicas_of_a_model_speak_those_that_are_gone_too(logged: World, name: str) -> None:
    lines = await read(logged, f"model={name}")
    assert said(lines) == ["dies", "lives"]
    assert {line["source"] for line in lines} == {"m-1", "m-2"}
    assert lines[-1]["at_unix_s"] > 1.7e9


async def test_one_replica_few_lines_and_late_ones(logged: World) -> None:
    assert said(await read(logged, "model=org/m&replica=m-1")) == ["dies"]
    assert said(await read(logged, "model=org/m&lines=1")) == ["lives"]
    assert await read(logged, "model=org/m&since_unix_s=4102444800") == []


async def test_parts_speak_and_the_controller_from_where_ray_keeps_its_words(logged: World) -> None:
    assert [line["text"] for line in await read(logged, "part=gateway")] == ['{"event": "listening"}']
    texts = [line["text"] for line in await read(logged, "part=controller")]
    assert "controller ready, pid 5" in texts
    assert any("decided" in text for text in texts)
    assert "another actor" not in texts


@pytest.mark.parametrize(
    ("query", "status", "code", "message"),
    [
        ("model=nobody", 404, "model_not_found", "has no model 'nobody'"),
        ("model=n", 404, "no_log", "No engine of 'n' has written a log"),
        ("model=o", 404, "no_log", "Its last start failed before there was one: No weights."),
        ("model=org/m&replica=m-9", 404, "replica_not_found", "the last are m-1, m-2"),
        ("part=../keys", 404, "no_log", "there is control, gateway"),
        ("part=..", 404, "no_log", "there is control, gateway"),
        ("", 400, "invalid_request", "either a model or a part"),
        ("model=n&part=gateway", 400, "invalid_request", "either a model or a part"),
    ],
)
async def test_what_is_not_there_is_said(logged: World, query: str, status: int, code: str, message: str) -> None:
    answered, body = await ask(logged, f"logs?{query}")
    assert (answered, body["error"]["code"]) == (status, code)
    assert message in body["error"]["message"]


async def test_callers_of_models_may_not_read(logged: World) -> None:
    url = "/admin/v1/logs?model=org/m"
    async with logged.client() as session, session.get(url, headers=logged.headers) as answer:
        assert answer.status == 403


class Following:
    """Somebody who follows a log."""

    def __init__(self, world: World, query: str) -> None:
        self.lines: list[str] = []
        self.ended = False
        self._world, self._query = world, query
        self._task = asyncio.ensure_future(self._follow())

    async def _follow(self) -> None:
        async with self._world.client() as session:
            url = f"/admin/v1/logs?follow=true&{self._query}"
            async with session.get(url, headers=self._world.admin_headers) as answer:
                assert answer.status == 200
                async for line in answer.content:
                    if line.strip():
                        self.lines.append(json.loads(line)["text"].split(" ", 2)[-1])
        self.ended = True

    async def until(self, *words: str) -> None:
        async with asyncio.timeout(10):
            while not set(words) <= set(self.lines):
                await asyncio.sleep(0.01)

    async def leave(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


async def test_a_follower_sees_a_replica_die_and_its_successor_come(logged: World) -> None:
    follower = Following(logged, "model=org/m&lines=1")
    await follower.until("lives")
    log = logged.home.engine_logs / "m-2.log"
    write(log, "2026-01-01 11:00:01,000 goes on\n")
    await follower.until("goes on")
    os.replace(log, f"{log}.1")
    write(engine_log(logged, "m-2", started_s=2.0), "2026-01-01 11:00:02,000 after the turn-over\n")
    await follower.until("after the turn-over")
    write(engine_log(logged, "m-3", started_s=3.0), "2026-01-01 11:00:03,000 the successor\n")
    await follower.until("the successor")
    assert "dies" not in follower.lines
    await follower.leave()


async def test_a_follower_waits_for_a_model_that_has_no_engine_yet(logged: World) -> None:
    follower = Following(logged, "model=n")
    await asyncio.sleep(0.05)
    write(engine_log(logged, "n-1", model="n"), "2026-01-01 11:00:03,000 the first\n")
    await follower.until("the first")
    await follower.leave()


async def test_followers_do_not_keep_the_server_from_ending(logged: World) -> None:
    follower = Following(logged, "model=org/m")
    await follower.until("lives")
    assert logged.gateway is not None
    await asyncio.to_thread(logged.gateway.stop)
    async with asyncio.timeout(3):
        while not follower.ended:
            await asyncio.sleep(0.01)
