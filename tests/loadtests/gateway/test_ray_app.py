"""What stands behind Ray Serve answers as the engine does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from loadtests.gateway import ray_app
from loadtests.gateway.ray_app import Canned, learnt
from loadtests.gateway.traffic import BRIEF, BURST, HELD, PACED, PLAIN, chat

pytestmark = pytest.mark.anyio


class Request:
    def __init__(self, body: bytes = b"", method: str = "POST") -> None:
        self._body, self.method = body, method

    async def body(self) -> bytes:
        return self._body


async def streamed(canned: Canned, model: str, most: int = 1000) -> list[bytes]:
    answer: Any = await canned(Request(chat(model, stream=True)))
    found = []
    async for piece in answer.body_iterator:
        found.append(piece)
        if len(found) == most:
            break
    return found


@pytest.fixture
def events() -> list[bytes]:
    return [*(b"data: %d\n\n" % number for number in range(64)), b"data: usage\n\n", b"data: [DONE]\n\n"]


@pytest.fixture
def canned(events: list[bytes], monkeypatch: pytest.MonkeyPatch) -> Canned:
    monkeypatch.setattr(ray_app, "PACE_S", 0.0)
    monkeypatch.setattr(ray_app, "HELD_S", 0.0)
    return Canned(b'{"id": 1}', b"".join(events))


async def test_plain_answers_and_health(canned: Canned) -> None:
    assert (await canned(Request(chat(PLAIN)))).body == b'{"id": 1}'
    assert (await canned(Request(method="GET"))).body == b"{}"


async def test_streams_come_event_by_event(canned: Canned, events: list[bytes]) -> None:
    assert await streamed(canned, BURST) == events
    assert await streamed(canned, PACED) == events
    assert await streamed(canned, BRIEF) == [events[0], *events[-2:]]


async def test_held_streams_do_not_end(canned: Canned, events: list[bytes]) -> None:
    assert await streamed(canned, HELD, most=200) == [events[0]] * 200


async def test_it_learns_from_the_engine(engine: int | None) -> None:
    if engine is None:
        return
    url = f"http://127.0.0.1:{engine}"
    assert json.loads(learnt(url, PLAIN, stream=False))["object"] == "chat.completion"
    assert learnt(url, BURST, stream=True).count(b"data: ") == 66
