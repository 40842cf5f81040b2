"""Answers in pieces, as a server sees them: what is sent when, and what is left undone when the client goes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from models.runtimes.tasks import images_api, predict_api, speech_api
from models.runtimes.tasks.events import event
from models.runtimes.torch.batcher import Batcher
from models.runtimes.torch.model_thread import model_thread
from tests.models.runtimes.tasks.test_images_api import Grey
from tests.models.runtimes.tasks.test_speech_api import Hum

pytestmark = pytest.mark.anyio


class Endless:
    """Streams until somebody closes it."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self.made = 0
        self.closed = False
        self.task = kind.task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kind, name)

    def stream(self, item: Any) -> Any:
        try:
            while True:
                self.made += 1
                yield self._kind.predict([item])[0]
        finally:
            self.closed = True


class Echo:
    task = "predict"

    def predict(self, batch: list[Any]) -> list[Any]:
        return batch


class Leaving:
    """A client that hangs up after so many parts of the body."""

    def __init__(self, body: Any, after: int) -> None:
        self._body = json.dumps(body).encode()
        self._after = after
        self._left = asyncio.Event()
        self._asked = False
        self.parts: list[bytes] = []
        self.status = 0

    async def receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message.get("body"):
            self.parts.append(message["body"])
        if len(self.parts) >= self._after:
            self._left.set()


@pytest.mark.parametrize(
    ("build", "kind", "path", "body"),
    [
        (predict_api.build, Echo(), "/v1/predict/m", {"inputs": "a", "stream": True}),
        (images_api.build, Grey(), "/v1/images/generations", {"prompt": "a", "stream": True, "partial_images": 3}),
        (speech_api.build, Hum(), "/v1/audio/speech", {"input": "a", "response_format": "pcm"}),
        (speech_api.build, Hum(), "/v1/audio/speech", {"input": "a", "stream_format": "sse"}),
    ],
    ids=["predict", "images", "sound", "sound as events"],
)
async def test_a_client_that_leaves_ends_the_models_work(build: Any, kind: Any, path: str, body: Any) -> None:
    model = Endless(kind)
    batcher = Batcher(model.predict, model_thread(int), stream=model.stream)
    app = build(model, batcher, ["m"])
    client = Leaving({"model": "m", **body} if path != "/v1/predict/m" else body, after=2)
    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b"", "root_path": ""}
    async with asyncio.timeout(20):
        await app({**scope, "asgi": {"version": "3.0", "spec_version": "2.3"}}, client.receive, client.send)
        await batcher.drained()
    assert client.status == 200
    assert len(client.parts) >= 2
    assert model.closed
    assert model.made < 100


def test_an_event_is_one_line_of_json_whatever_is_in_it() -> None:
    assert event({"text": "a\nb\r\n\u2028"}) == 'data: {"text":"a\\nb\\r\\n\u2028"}\n\n'.encode()
    assert event([1], "name") == b"event: name\ndata: [1]\n\n"
