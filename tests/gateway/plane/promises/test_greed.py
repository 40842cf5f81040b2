"""R15: greedy parameters are refused before they reach an engine; R14 for JSON that is odd rather than greedy."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateway.plane.protocol.house import House
from tests.gateway.plane.protocol.raw_engine import Asked, Link, whole
from tests.gateway.plane.protocol.wire import Answer
from tests.gateway.world import chat_body


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


async def whatever(link: Link, asked: Asked) -> None:
    """An engine that reads nothing of the body: it may be JSON that Python's own parser does not take."""
    await link.say(whole())


def schema_of(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}


WIDE = {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(50_000)}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
GREEDY: list[tuple[str, dict[str, Any]]] = [
    ("n", {"n": 10_000}),
    ("n", {"n": 2**63}),
    ("top_logprobs", {"logprobs": True, "top_logprobs": 10_000}),
    ("logit_bias", {"logit_bias": {str(token): 1 for token in range(100_000)}}),
    ("stop", {"stop": [f"s{number}" for number in range(10_000)]}),
    ("stop", {"stop": ["x" * 1_000_000]}),
    ("max_tokens", {"max_tokens": 10**12}),
    ("max_completion_tokens", {"max_completion_tokens": 10**12}),
    ("response_format", {"response_format": schema_of(deep(200))}),
    ("response_format", {"response_format": schema_of(WIDE)}),
    ("tools", {"tools": [TOOL] * 5000}),
    ("tools", {"tools": [{"type": "function", "function": {"name": "f", "parameters": deep(200)}}]}),
    ("best_of", {"best_of": 10_000}),
    ("prompt_logprobs", {"prompt_logprobs": 10_000}),
]


def ask(house: House, body: bytes, path: str = "/v1/chat/completions") -> Answer:
    with house.caller() as caller:
        return caller.ask(house.head(("content-length", str(len(body))), path=path) + body)


@pytest.mark.parametrize(("param", "fields"), GREEDY, ids=[f"{name} {at}" for at, (name, _) in enumerate(GREEDY)])
def test_r15_a_greedy_parameter_never_reaches_an_engine(house: House, param: str, fields: dict[str, Any]) -> None:
    answer = ask(house, json.dumps(chat_body("m", **fields)).encode())
    assert answer.status == 400
    assert (answer.error()["param"] or "").startswith(param)
    assert house.engine.asked == []


def test_r15_the_usual_is_let_through(house: House) -> None:
    modest = {
        "n": 4, "logprobs": True, "top_logprobs": 5, "logit_bias": {"1": -100}, "stop": ["a", "b"], "max_tokens": 4096,
        "response_format": schema_of(deep(5)), "tools": [TOOL] * 20, "seed": 1, "temperature": 0.5,
    }  # fmt: skip
    assert ask(house, json.dumps(chat_body("m", **modest)).encode()).status == 200


def test_r15_completions_with_thousands_of_prompts(house: House) -> None:
    body = json.dumps({"model": "m", "prompt": ["hi"] * 100_000}).encode()
    assert ask(house, body, "/v1/completions").status == 400
    assert house.engine.asked == []


@pytest.mark.parametrize("levels", [100, 1000, 100_000])
def test_r14_nesting_of_any_depth(house: House, levels: int) -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        inner = opening * levels + b"1" + closing * levels
        for body in (
            b'{"model":"m","messages":[],"x":' + inner + b"}",
            b'{"model":' + inner + b"}",
            inner,
            b'{"model":"m","messages":' + inner + b"}",
            b'{"model":"m","messages":[],"response_format":' + inner + b"}",
        ):
            answer = ask(house, body)
            assert answer.status < 500
            if answer.status != 200:
                answer.error()


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","model":"n"}',
        b'{"model":"m","stream":"yes"}',
        b'{"model":"m","stream":null}',
        b'{"model":"m","messages":null}',
        b'{"model":"m","messages":"hi"}',
        b'{"model":"m","messages":[null,1,"a",[],{}]}',
        b'{"model":"m","messages":[{"role":1,"content":{"a":[1e999]}}]}',
        b'{"model":"m","n":"4"}',
        b'{"model":"m","n":-1}',
        b'{"model":"m","n":1e308}',
        b'{"model":"m","n":NaN}',
        b'{"model":"\\ud800","messages":[]}',
        b'{"model":"m\\u0000","messages":[]}',
        b'{"model":"m","stop":{"a":1}}',
        b'{"model":"m","logit_bias":[1,2]}',
        b'{"model":"m","max_tokens":true}',
        b'{"model":"m","tools":{"a":1}}',
        b'{"model":"m","user":["x"]}',
        b'{"model":"m","x":' + b"9" * 100_000 + b"}",
        b'\xef\xbb\xbf{"model":"m","messages":[]}',
        '{"model":"m","messages":[]}'.encode("utf-16"),
        b'{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":"http://169.254.169.254/"}]}]}',
        b'{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":7}}]}]}',
        b'{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"file:///etc/passwd"}}]}]}',
    ],
    ids=range(24),
)
def test_r14_odd_json_is_refused_or_forwarded_and_never_a_5xx(house: House, body: bytes) -> None:
    house.engine.play = whatever
    answer = ask(house, body)
    assert answer.status < 500
    if answer.status != 200:
        answer.error()
    assert all(asked.body == body for asked in house.engine.asked)


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest", "https://example.com/a.png", "file:///etc/passwd", "ftp://x/y", "HTTP://x"]
)
def test_s1_urls_are_not_fetched_by_engines_unless_allowed(house: House, url: str) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    answer = ask(house, json.dumps(chat_body("m") | {"messages": [{"role": "user", "content": [part]}]}).encode())
    assert answer.status == 400
    assert house.engine.asked == []


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=12,
)
NAMES = [
    "messages", "n", "stream", "stop", "logit_bias", "tools", "response_format", "user", "max_tokens", "model",
    "prompt", "input", "stream_options", "top_logprobs", "documents", "functions", "guided_json",
]  # fmt: skip
PATHS = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/embeddings",
    "/v1/rerank",
    "/tokenize",
]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=st.dictionaries(st.sampled_from(NAMES), anything, max_size=5), path=st.sampled_from(PATHS))
def test_r14_any_json_is_no_5xx(house: House, fields: dict[str, Any], path: str) -> None:
    house.engine.play = whatever
    body = json.dumps({"model": "m"} | fields).encode()
    assert ask(house, body, path).status < 500
