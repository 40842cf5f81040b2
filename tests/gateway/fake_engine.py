"""An engine that answers over a real unix socket and does what each request asks of it.

The request body's field ``fake`` names the behaviour (the gateway forwards bodies unchanged):
``{"do": "answer" | "hang" | "die_before_head" | "die_after_head" | "die_in_the_middle" | "fail" | "big" | ...}``.
``FakeEngine.always`` overrides it for every request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

WORDS = ("one", " two", " three")


@dataclass
class Seen:
    path: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return next((value for found, value in self.headers if found.lower() == name), None)


@dataclass
class FakeEngine:
    socket: Path
    always: dict[str, Any] | None = None
    seen: list[Seen] = field(default_factory=list)
    open: int = 0
    abandoned: int = 0  # requests whose caller went away
    go_on: asyncio.Event = field(default_factory=asyncio.Event)  # lets paused streams continue
    _runner: web.AppRunner | None = None

    @property
    def endpoint(self) -> str:
        return f"unix:{self.socket}"

    async def start(self) -> FakeEngine:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.socket)).start()
        return self

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self.socket.unlink(missing_ok=True)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.seen.append(Seen(request.path, list(request.headers.items()), body))
        # A form asks for nothing in particular.
        fields = {} if request.content_type == "multipart/form-data" else json.loads(body)
        asked = fields if isinstance(fields, dict) else {}
        fake = self.always or asked.get("fake") or {"do": "answer"}
        behaviour: Callable[..., Awaitable[web.StreamResponse]] = getattr(self, f"_{fake['do']}")
        self.open += 1
        try:
            return await behaviour(request, fields, fake)
        except (asyncio.CancelledError, ConnectionResetError):
            self.abandoned += 1
            raise
        finally:
            self.open -= 1

    async def _answer(self, request: web.Request, fields: Any, fake: Any) -> web.StreamResponse:
        if isinstance(fields, dict) and fields.get("stream"):
            return await self._stream(request, fields, fake)
        return web.json_response(
            answer(request.path, fields), headers={"x-engine-secret": "internal", "server": "vllm"}
        )

    async def _stream(self, request: web.Request, fields: Any, fake: Any) -> web.StreamResponse:
        response = await _head(request)
        if fake.get("pause_after") == 0:
            await self.go_on.wait()
        for number, event in enumerate(events(request.path, fields)):
            await response.write(event)
            if fake.get("pause_after") == number + 1:
                await self.go_on.wait()
        return response

    async def _hang(self, request: web.Request, fields: Any, fake: Any) -> web.StreamResponse:
        if fake.get("after_head"):
            await _head(request)
        await asyncio.Event().wait()
        raise AssertionError

    async def _die_before_head(self, request: web.Request, fields: Any, fake: Any) -> web.StreamResponse:
        _abort(request)
        return web.Response()

    async def _die_after_head(self, request: web.Request, fields: Any, fake: Any) -> web.StreamResponse:
        response = await _head(request)
        _abort(request)
        return response

    async def _die_in_the_middle(self, request: web.Request, fields: Any, fake: Any) -> web.StreamResponse:
        if not fields.get("stream"):
            response = web.StreamResponse(headers={"content-type": "application/json", "content-length": "100000000"})
            await response.prepare(request)
            await response.write(b" " * int(fake.get("after_bytes", 1000)))
        else:
            response = await _head(request)
            first, second, *_ = events(request.path, fields)
            await response.write(first)
            await response.write(second[: len(second) // 2])
        await asyncio.sleep(0.05)  # so that what was written is read before the connection breaks
        _abort(request)
        return response

    async def _fail(self, request: web.Request, fields: Any, fake: Any) -> web.StreamResponse:
        text = fake["body"] if isinstance(fake["body"], str) else json.dumps(fake["body"])
        return web.Response(status=fake["status"], text=text, content_type="application/json")

    async def _big(self, request: web.Request, fields: Any, fake: Any) -> web.StreamResponse:
        """As a reader takes it: ``write`` waits for room."""
        pieces, size = divmod(int(fake["bytes"]), 1 << 16)
        assert size == 0
        length = str(int(fake["bytes"]))
        response = web.StreamResponse(headers={"content-type": "application/json", "content-length": length})
        await response.prepare(request)
        for _ in range(pieces):
            await response.write(b"x" * (1 << 16))
        return response

    async def _sound(self, request: web.Request, fields: Any, fake: Any) -> web.StreamResponse:
        """No text, of unknown length; goes on when it is told to."""
        response = web.StreamResponse(headers={"content-type": "audio/wav"})
        await response.prepare(request)
        await response.write(b"RIFF\x00\xff")
        await self.go_on.wait()
        await response.write(bytes(range(256)))
        return response


async def _head(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    return response


def _abort(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.abort()


def answer(path: str, fields: Any) -> Any:
    """An answer as the real API gives it."""
    model: Any = fields["model"] if isinstance(fields, dict) and "model" in fields else None
    usage = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    if path == "/v1/chat/completions":
        message = {"role": "assistant", "content": "".join(WORDS)}
        choices: list[Any] = [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}]
        return {
            "id": "c1",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": choices,
            "usage": usage,
        }
    if path == "/v1/completions":
        choices = [{"index": 0, "text": "".join(WORDS), "finish_reason": "stop", "logprobs": None}]
        return {
            "id": "t1",
            "object": "text_completion",
            "created": 1,
            "model": model,
            "choices": choices,
            "usage": usage,
        }
    if path == "/v1/embeddings":
        data = [{"object": "embedding", "index": 0, "embedding": [0.5, -0.5]}]
        return {"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": 2, "total_tokens": 2}}
    if path == "/v1/messages":
        return _message(model) | {"content": [{"type": "text", "text": "".join(WORDS)}], "stop_reason": "end_turn"}
    if path == "/v1/messages/count_tokens":
        return {"input_tokens": 7}
    return {"path": path, "model": model}


def events(path: str, fields: Any) -> list[bytes]:
    """The same answer as a stream of Server-Sent Events."""
    if path == "/v1/messages":
        return _message_events(fields["model"])
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": fields["model"]}
    deltas: list[Any] = [{"role": "assistant", "content": ""}, *({"content": word} for word in WORDS), {}]
    last = len(deltas) - 1
    chunks = [
        head | {"choices": [{"index": 0, "delta": delta, "finish_reason": "stop" if number == last else None}]}
        for number, delta in enumerate(deltas)
    ]
    return [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks] + [b"data: [DONE]\n\n"]


def _message(model: str) -> dict[str, Any]:
    usage = {"input_tokens": 2, "output_tokens": 3}
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": usage,
    }  # fmt: skip


def _message_events(model: str) -> list[bytes]:
    shown: list[Any] = [
        {"type": "message_start", "message": _message(model)},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": w}} for w in WORDS),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 3},
        },
        {"type": "message_stop"},
    ]
    return [b"event: %b\ndata: %b\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in shown]
