"""Metered tokens are those that the caller saw, with real vLLM engines: whatever it asked for, whenever it left."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.metering.reader import spools
from models.home import Home
from models.store.usage import UsageEvent
from tests.e2e.service import Service, until

TELL_ALL = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
TELL_LAST = {"stream_options": {"include_usage": True}}
# Every token is seen by its logprob, also one that makes no text.
SEEN_BY_LOGPROBS: dict[str, Any] = {"logprobs": True}


def chat(model: str = "tiny-llama", **fields: Any) -> tuple[str, dict[str, Any]]:
    messages = [{"role": "user", "content": "tell me a story"}]
    return "/v1/chat/completions", {"model": model, "messages": messages, "max_tokens": 12, **fields}


def completion(model: str = "tiny-llama", **fields: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/completions", {"model": model, "prompt": "once upon a time", "max_tokens": 12, **fields}


def metered(service: Service, request_id: str) -> UsageEvent:
    def look() -> UsageEvent | None:
        found = []
        for spool in spools(Home(service.home.resolve())):
            offset = 0
            while (batch := spool.read(offset)).events:
                offset = batch.offset
                found += [event for event in batch.events if event.id == request_id]
        assert len(found) <= 1, "one event per request"
        return found[0] if found else None

    event = until(look)
    assert isinstance(event, UsageEvent)
    return event


class Stream:
    """A caller that can leave at any event, and reads what was on its way to it then."""

    def __init__(self, service: Service, path: str, body: dict[str, Any]) -> None:
        self.request_id = f"test-{uuid.uuid4().hex}"
        data = json.dumps(body | {"stream": True}).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: roundhouse\r\nauthorization: Bearer {service.api_key}\r\n"
            f"content-type: application/json\r\nx-request-id: {self.request_id}\r\ncontent-length: {len(data)}\r\n\r\n"
        )
        self._socket = socket.create_connection(("127.0.0.1", service.port), timeout=60)
        self._socket.sendall(head.encode() + data)
        self._raw = b""
        self.chunks: list[dict[str, Any]] = []

    def read(self, most: int | None = None) -> Stream:
        """Until so many events were seen, or to the end."""
        while not self._raw.endswith(b"0\r\n\r\n") and (most is None or len(self._parsed()) < most):
            data = self._socket.recv(65536)
            if not data:
                break
            self._raw += data
        self.chunks = self._parsed()
        return self

    def leave(self) -> Stream:
        """The gateway sees that it sends no more. What was sent to it by then, it has seen."""
        self._socket.shutdown(socket.SHUT_WR)
        try:
            while data := self._socket.recv(65536):
                self._raw += data
        except ConnectionResetError:
            pass
        self._socket.close()
        self.chunks = self._parsed()
        return self

    def _parsed(self) -> list[dict[str, Any]]:
        # Each event is in a chunk of its own or in one with others; sizes are lines by themselves.
        events = [line for line in self._raw.split(b"\n") if line.startswith(b"data: {")]
        whole = [event for event in events if event.endswith(b"}")]
        return [json.loads(event[6:]) for event in whole]

    @property
    def told(self) -> list[dict[str, int]]:
        return [chunk["usage"] for chunk in self.chunks if chunk.get("usage")]

    @property
    def logprobs(self) -> int:
        """Tokens that were seen."""
        return sum(len(list(_logprobs(choice))) for chunk in self.chunks for choice in chunk["choices"])


def _logprobs(choice: dict[str, Any]) -> Iterator[Any]:
    found = choice.get("logprobs") or {}
    yield from found.get("content") or found.get("tokens") or ()


def test_a_stream_that_nobody_asked_to_be_told_tokens_of(service: Service) -> None:
    stream = Stream(service, *chat(**SEEN_BY_LOGPROBS)).read()
    event = metered(service, stream.request_id)
    assert stream.told == [], "nobody asked for it"
    assert all(chunk["choices"] for chunk in stream.chunks)
    assert event.completion_tokens == stream.logprobs == 12
    assert event.prompt_tokens > 5
    assert (event.status, event.stream, event.estimated, event.cut, event.model) == (
        200,
        True,
        False,
        False,
        "tiny-llama",
    )
    (run,) = event.runs
    assert event.started_us <= run.from_us <= run.from_us + run.us <= event.ended_us


@pytest.mark.parametrize("ask", [chat, completion])
def test_callers_are_told_what_they_asked_for_and_no_more(service: Service, ask: Any) -> None:
    last = Stream(service, *ask(**TELL_LAST)).read()
    assert len(last.told) == 1
    assert last.chunks[-1]["choices"] == []
    each = Stream(service, *ask(**TELL_ALL)).read()
    assert len(each.told) == len(each.chunks)
    whole = last.told[-1]
    assert whole == each.told[-1]
    for stream in (last, each):
        event = metered(service, stream.request_id)
        assert (event.prompt_tokens, event.completion_tokens) == (whole["prompt_tokens"], whole["completion_tokens"])
        assert not event.estimated


@pytest.mark.parametrize("ask", [chat, completion])
@pytest.mark.parametrize("after", [2, 3, 17, 60])
def test_a_caller_who_leaves_pays_for_what_it_saw(service: Service, ask: Any, after: int) -> None:
    fields = {"max_tokens": 900, "ignore_eos": True, "logprobs": True if ask is chat else 0}
    stream = Stream(service, *ask(**fields)).read(most=after).leave()
    event = metered(service, stream.request_id)
    assert event.completion_tokens == stream.logprobs < 900
    assert event.estimated
    assert event.prompt_tokens > 0


def test_several_answers_at_once(service: Service) -> None:
    fields: dict[str, Any] = {"n": 3, "logprobs": True, "max_tokens": 200, "ignore_eos": True}
    whole = Stream(service, *chat(**fields | {"max_tokens": 5})).read()
    assert metered(service, whole.request_id).completion_tokens == whole.logprobs == 15
    left = Stream(service, *chat(**fields)).read(most=40).leave()
    event = metered(service, left.request_id)
    assert event.completion_tokens == left.logprobs < 600
    assert event.prompt_tokens == metered(service, whole.request_id).prompt_tokens


def test_several_prompts_at_once(service: Service) -> None:
    fields: dict[str, Any] = {
        "prompt": ["one two three", "once upon a time there was"],
        "logprobs": 0,
        "ignore_eos": True,
    }
    whole = Stream(service, *completion(**fields | {"max_tokens": 6} | TELL_LAST)).read()
    event = metered(service, whole.request_id)
    assert event.completion_tokens == whole.logprobs == 12
    assert event.prompt_tokens == whole.told[-1]["prompt_tokens"]
    left = Stream(service, *completion(**fields, max_tokens=500)).read(most=40).leave()
    cut = metered(service, left.request_id)
    assert cut.completion_tokens == left.logprobs < 1000
    assert cut.prompt_tokens == event.prompt_tokens


def test_an_unstreamed_answer_and_an_error(service: Service) -> None:
    answer = service.chat("tiny-llama")
    event = metered(service, answer.headers["x-request-id"])
    usage = answer.json()["usage"]
    assert (event.prompt_tokens, event.completion_tokens) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert (event.status, event.stream, event.code) == (200, False, "")
    wrong = service.chat("tiny-llama", temperature=-7)
    refused = metered(service, wrong.headers["x-request-id"])
    assert refused.status == wrong.status_code == 400, "and by whom, its run says"
    assert [run.replica for run in refused.runs] == [run.replica for run in event.runs]
    assert refused.completion_tokens == 0
    unknown = service.chat("nobody-has-this")
    assert metered(service, unknown.headers["x-request-id"]).code == "model_not_found"


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
def test_the_other_dialects(service: Service, path: str) -> None:
    body: dict[str, Any] = {"model": "tiny-llama", "max_tokens": 10}
    if path == "/v1/responses":
        body = {"model": "tiny-llama", "input": "tell me a story", "max_output_tokens": 10, "store": False}
    else:
        body["messages"] = [{"role": "user", "content": "tell me a story"}]
    stream = Stream(service, path, body).read()
    event = metered(service, stream.request_id)
    assert event.status == 200
    assert event.completion_tokens == 10
    assert event.prompt_tokens > 0
    assert not event.estimated
