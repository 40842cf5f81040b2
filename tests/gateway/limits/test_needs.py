"""The most that a request can take: no engine may come to more than what was reserved for it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.endpoints import by_path
from gateway.greed import Caps
from gateway.inquiry import Inquiry
from gateway.limits.needs import Need, need_of
from gateway.peek import peek
from models.store.records import ModelRoute
from tests.gateway.limits.stage import account

PATHS = by_path()
CONTEXT = 8192


def needed(path: str, longest: int | None = CONTEXT, **body: Any) -> tuple[int, Need]:
    """How long its body is, and what it needs."""
    return needed_by(path, json.dumps({"model": "m", **body}).encode(), longest)


def needed_by(path: str, raw: bytes, longest: int | None = CONTEXT) -> tuple[int, Need]:
    endpoint, whose = PATHS[path], account()
    found = peek(raw, endpoint, Caps(), frozenset())
    inquiry = Inquiry(endpoint, whose, whose.caller, [], raw, found, deadline_s=1.0)
    return len(raw), need_of(whose, ModelRoute("m", max_model_len=longest), inquiry)


def chat(content: object) -> list[dict[str, object]]:
    return [{"role": "user", "content": content}]


def test_of_a_conversation_no_more_than_its_bytes_and_what_it_may_be_answered() -> None:
    size, need = needed("/v1/chat/completions", messages=chat("Why is the sky blue?"), max_tokens=100, n=3)
    assert (need.most_input_tokens, need.most_output_tokens) == (size, 300)


def test_of_one_prompt_no_more_than_the_context_holds() -> None:
    _, need = needed("/v1/chat/completions", messages=chat("Why? " * CONTEXT), n=2)
    assert (need.most_input_tokens, need.most_output_tokens) == (CONTEXT, 2 * CONTEXT)


@pytest.mark.parametrize(
    "prompt", [["a", "b", "c", "d"], [[1, 2], [3], [4, 5, 6], [7]], [" a", "[1]", "9", ""]], ids=["texts", "ids", "odd"]
)
def test_each_prompt_of_a_list_has_an_answer_of_its_own(prompt: list[object]) -> None:
    _, need = needed("/v1/completions", prompt=prompt, max_tokens=1000, n=2)
    assert need.most_output_tokens == need.output_tokens == 4 * 2 * 1000
    _, need = needed("/v1/completions", prompt=prompt)
    assert need.most_output_tokens == 4 * CONTEXT


@pytest.mark.parametrize("prompt", ["a text", [1, 2, 3, 4], ["one"], []])
def test_tokens_are_one_prompt(prompt: object) -> None:
    _, need = needed("/v1/completions", prompt=prompt, max_tokens=1000)
    assert need.most_output_tokens == 1000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/rerank", {"query": "q" * 500, "documents": ["d"] * 100}),
        ("/v2/rerank", {"query": "q" * 500, "documents": ["d"] * 100}),
        ("/v1/score", {"text_1": "q" * 500, "text_2": ["d"] * 100}),
        ("/v1/score", {"text_1": ["q" * 500], "text_2": ["d"] * 100}),
        ("/v1/score", {"queries": "q" * 500, "items": ["d"] * 100}),
    ],
)
def test_a_query_is_read_with_each_document(path: str, body: dict[str, Any]) -> None:
    _, need = needed(path, **body)
    assert 100 * 501 <= need.most_input_tokens <= 100 * 510


def test_texts_that_are_compared_in_pairs_are_read_once() -> None:
    size, need = needed("/v1/score", text_1=["a" * 100] * 20, text_2=["b" * 100] * 20)
    assert need.most_input_tokens == size


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/v1/chat/completions", {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}),
        ("/v1/chat/completions", {"type": "video_url", "video_url": "data:video/mp4;base64,AAAA"}),
        (
            "/v1/messages",
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        ),
    ],
)
def test_a_picture_may_fill_the_context(path: str, part: dict[str, object]) -> None:
    """A few hundred bytes of a plain one are thousands of tokens."""
    _, need = needed(path, messages=chat([part]), max_tokens=10)
    assert need.most_input_tokens == CONTEXT


@pytest.mark.parametrize(
    "part",
    [
        b'{"type": "image_ur\\u006c", "image_\\u0075rl": {"ur\\u006C": "data:,"}}',
        b'{"type": "image", "source": {"type": "base6\\u0034", "data": ""}}',
    ],
)
def test_it_may_be_spelt_as_it_likes(part: bytes) -> None:
    raw = b'{"model": "m", "max_tokens": 1, "messages": [{"content": [%b]}]}' % part
    _, need = needed_by("/v1/messages", raw)
    assert need.most_input_tokens == CONTEXT


def test_marks_that_many_write_so_are_none() -> None:
    """As Go's encoder does, in a conversation that has parts."""
    said = b'[{"type": "text", "text": "a \\u003c b \\u0026\\u0026 c \\u003e d, an \\"url\\""}]'
    size, need = needed_by(
        "/v1/chat/completions", b'{"model": "m", "max_tokens": 1, "messages": [{"content": %b}]}' % said
    )
    assert need.most_input_tokens == size


def test_what_only_counts_tokens_uses_none() -> None:
    _, need = needed("/tokenize", prompt="a text")
    assert need == Need(need.account, need.route, 0, 0, 0, 0)
