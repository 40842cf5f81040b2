"""A gateway that keeps things, with an engine that understands what is said to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import openai
import pytest
from aiohttp import web

from gateway.app import Deps
from gateway.batches.run import Pace
from gateway.kept import Kept, KeptLimits, KeptParts, mount
from gateway.later import Later
from gateway.settings import Limits
from models.home import Home
from models.store.client import connect, connect_async
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from tests.gateway.fake_engine import FakeEngine, _head
from tests.gateway.world import SOON_S, GatewayThread, World

FAST = Pace(look_s=0.02, retry_s=0.02, longest_retry_s=0.1)


@dataclass
class TalkingEngine(FakeEngine):
    """Says how many items it was given and repeats their texts; knows nothing of earlier requests."""

    answered: int = 0

    async def _answer(self, request: web.Request, fields: Any, fake: Any) -> web.StreamResponse:
        if request.path != "/v1/responses":
            return await super()._answer(request, fields, fake)
        self.answered += 1
        response = self.response(fields)
        if not fields.get("stream"):
            return web.json_response(response)
        answer = await _head(request)
        for number, event in enumerate(stream_of(response)):
            for piece in (event[:9], event[9:]):
                await answer.write(piece)
            if fake.get("pause_after") == number + 1:
                await self.go_on.wait()
        return answer

    async def _wait(self, request: web.Request, fields: Any, fake: Any) -> web.StreamResponse:
        """An answer that takes until it is told to go on."""
        await self.go_on.wait()
        return await self._answer(request, fields, fake)

    def response(self, fields: Any) -> dict[str, Any]:
        given = fields["input"]
        items = [{"role": "user", "content": given}] if isinstance(given, str) else given
        text = f"{len(items)}: {' | '.join(map(text_of, items))}"
        content: Any = [{"type": "output_text", "text": text, "annotations": [], "logprobs": None}]
        message = {
            "type": "message", "id": f"msg_{self.answered}", "role": "assistant", "status": "completed",
            "content": content,
        }  # fmt: skip
        usage = {
            "input_tokens": 2, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 5,
        }  # fmt: skip
        return {
            "id": f"resp_{self.socket.stem}_{self.answered}", "object": "response", "created_at": 1,
            "status": "completed", "model": fields["model"], "output": [message], "parallel_tool_calls": True,
            "tool_choice": "auto", "tools": [], "previous_response_id": None, "background": False, "usage": usage,
            "instructions": fields.get("instructions"), "metadata": fields.get("metadata"),
        }  # fmt: skip


def text_of(item: Any) -> str:
    content = item.get("content", item.get("output", ""))
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def stream_of(response: dict[str, Any]) -> list[bytes]:
    item = response["output"][0]
    text = item["content"][0]["text"]
    where = {"item_id": item["id"], "output_index": 0, "content_index": 0, "logprobs": []}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": response | {"status": "in_progress", "output": [], "usage": None}},
        *({"type": "response.output_text.delta", "delta": word, **where} for word in text.split(" ")),
        {"type": "response.output_text.done", "text": text, **where},
        {"type": "response.completed", "response": response},
    ]
    return [
        f"event: {event['type']}\ndata: {json.dumps(event | {'sequence_number': number})}\n\n".encode()
        for number, event in enumerate(events)
    ]


class KeptThread(GatewayThread):
    kept: Kept

    def __init__(self, deps: Deps, limits: KeptLimits) -> None:
        super().__init__(deps)
        parts = KeptParts(
            redis=deps.redis,
            keys=deps.keys,
            home=deps.home,
            worker=deps.worker,
            find=self.app.admission.routes.find,
            limits=limits,
        )
        self.kept = mount(self.app, cast(Later, self.app.control), parts)


@dataclass
class KeptWorld(World):
    """Several workers share the store and the disk, each on its own port."""

    workers: list[KeptThread] = field(default_factory=list)
    elsewhere: Home | None = None  # of workers on another machine

    async def begin(self, kept: KeptLimits | None = None, limits: Limits | None = None) -> KeptThread:
        """One more worker."""
        if not self.key:
            self.key = await self.make_key("tester", "inference")
        deps = Deps(
            redis=connect_async(self.redis_url),
            blocking_redis=connect(self.redis_url),
            keys=self.keys,
            limits=limits or Limits(hold_timeout_s=SOON_S),
            worker=f"worker-{len(self.workers) + 1}",
            home=self.elsewhere or self.home,
            keeps=False,  # mounted with limits of its own
        )
        worker = KeptThread(deps, kept or KeptLimits(pace=FAST))
        self.workers.append(worker)
        self.gateway = self.gateway or worker
        await asyncio.to_thread(worker.start)
        return worker

    async def end(self, worker: KeptThread) -> None:
        self.workers.remove(worker)
        await asyncio.to_thread(worker.stop)
        if self.gateway is worker:
            self.gateway = self.workers[0] if self.workers else None

    async def stop(self) -> None:
        self.gateway = None
        for engine in self.engines.values():
            engine.go_on.set()
        for worker in list(self.workers):
            await self.end(worker)
        await super().stop()

    async def talking(self, replica: str = "m-1") -> TalkingEngine:
        engine = TalkingEngine(self.sockets / f"{replica}.sock")
        self.engines[replica] = await engine.start()
        return engine

    def api(self, key: str | None = None, worker: KeptThread | None = None) -> openai.AsyncOpenAI:
        url = (worker or self.workers[0]).url
        return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key or self.key, max_retries=0, timeout=20)


@pytest.fixture
async def kept_world(redis_server: EmbeddedRedis, keys: Keys, sockets: Path) -> AsyncIterator[KeptWorld]:
    """Without a worker: the test begins as many as it needs."""
    redis = connect_async(redis_server.url)
    world = KeptWorld(redis, redis_server.url, keys, sockets)
    try:
        yield world
    finally:
        await world.stop()
        await redis.aclose()
