"""R15: what asks too much of an engine does not get there, and what is merely odd does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.endpoints import by_path
from gateway.errors import InvalidRequest
from gateway.greed import CODE, Caps, is_deeper
from gateway.peek import peek

PATHS = by_path()
CHAT = "/v1/chat/completions"
CAPS = Caps(
    n=4, images=2, best_of=6, logprobs=5, logit_bias=10, stop=3, stop_characters=8, max_tokens=1000, prompts=20,
    tools=3, schema_depth=10, schema_bytes=2000,
)  # fmt: skip


def ask(path: str = CHAT, caps: Caps = CAPS, **fields: Any) -> None:
    peek(json.dumps({"model": "m", **fields}).encode(), PATHS[path], caps, frozenset())


def refused(path: str = CHAT, **fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as error:
        ask(path, **fields)
    assert (error.value.status, error.value.code) == (400, CODE)
    assert error.value.param in fields
    assert f"'{error.value.param}'" in error.value.message
    return error.value


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels - 1):
        schema = {"p": schema}
    return schema


def tool(parameters: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": parameters or {}}}


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("n", 4),
        ("best_of", 6),
        ("logprobs", 5),
        ("top_logprobs", 5),
        ("prompt_logprobs", 5),
        ("max_tokens", 1000),
        ("max_completion_tokens", 1000),
        ("max_output_tokens", 1000),
    ],
)
def test_numbers_up_to_their_cap(name: str, most: int) -> None:
    asked: dict[str, Any] = {name: most}
    ask(**asked)
    for trick in (most + 1, 10_000, 1e4, 10_000.5, "10000", " 1e4 ", "10_000", 10**30):
        asked[name] = trick  # engines read numbers in texts, too
        assert str(most) in refused(**asked).message


@pytest.mark.parametrize("odd", [None, True, False, -1, 0, 0.5, "four", "", [9999], {"n": 9999}, "1e999x"])
def test_what_is_merely_odd_is_for_the_engine_to_judge(odd: Any) -> None:
    for name in ("n", "logprobs", "max_tokens", "stop", "logit_bias", "stop_token_ids", "bad_words", "tools"):
        ask(**{name: odd})


def test_infinity_is_above_every_cap() -> None:
    refused(n="inf")


@pytest.mark.parametrize(
    "body", [b'{"model":"m","n":1,"n":9}', b'{"model":"m","\\u006e":9}', b'{"n":9,"n":9,"model":"m"}']
)
def test_a_field_cannot_hide_behind_another_or_under_another_spelling(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="'n'"):
        peek(body, PATHS[CHAT], CAPS, frozenset())
    # Of two, JSON readers take the last one.
    peek(b'{"model":"m","n":9,"n":1}', PATHS[CHAT], CAPS, frozenset())


@pytest.mark.parametrize("name", ["stop", "stop_sequences", "stop_token_ids", "bad_words"])
def test_few_sequences_stop_an_answer(name: str) -> None:
    entry: Any = 7 if name == "stop_token_ids" else "a"
    asked: dict[str, Any] = {name: [entry] * 3}
    ask(**asked)
    asked[name] = [entry] * 4
    assert refused(**asked).param == name


def test_sequences_that_stop_an_answer_are_short() -> None:
    ask(stop="é" * 8)
    refused(stop="é" * 9)
    ask(stop=["12345678"] * 3)
    refused(stop=["1", "123456789"])


def test_few_tokens_are_biased() -> None:
    ask(logit_bias={str(token): 1 for token in range(10)})
    assert refused(logit_bias={str(token): 1 for token in range(11)}).param == "logit_bias"


def test_few_tools() -> None:
    ask(tools=[tool()] * 3)
    refused(tools=[tool()] * 4)
    with pytest.raises(InvalidRequest, match="'tools' has more entries than the 512"):
        ask(caps=Caps(), tools=[1] * 513)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda schema: {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}},
        lambda schema: {"guided_json": {"a": {"b": schema}}},
        lambda schema: {"structured_outputs": {"json": {"a": schema}}},
        lambda schema: {"tools": [{"parameters": schema}]},
    ],
)
def test_schemas_are_neither_deep_nor_large(wrap: Any) -> None:
    ask(**wrap(nested(8)))
    assert "deeply" in refused(**wrap(nested(12))).message
    assert "bytes" in refused(**wrap({"description": "x" * 2000})).message


def test_all_schemas_of_a_request_count_together() -> None:
    ask(response_format={"a": "x" * 1500})
    refused(response_format={"a": "x" * 1500}, guided_json={"a": "x" * 1500})


def test_the_format_of_responses_is_a_schema_as_well() -> None:
    text = {"format": {"type": "json_schema", "schema": nested(12)}}
    assert refused("/v1/responses", text=text, input="a").param == "text"
    ask(text=text)  # elsewhere it means nothing


def test_many_texts_in_one_request() -> None:
    for path, name in (("/v1/embeddings", "input"), ("/v1/rerank", "documents"), ("/v1/completions", "prompt")):
        asked: dict[str, Any] = {name: ["a"] * 20}
        ask(path, **asked)
        asked[name] = ["a"] * 21
        assert refused(path, **asked).param == name
    ask("/v1/embeddings", input=list(range(1000)))  # one text, in tokens
    refused("/v1/embeddings", input=[[1, 2]] * 21)
    refused("/v1/score", text_1="a", text_2=["b"] * 21)
    ask("/v1/chat/completions", messages=[{"role": "user", "content": "a"}] * 50)


def test_many_answers_to_many_prompts_multiply() -> None:
    ask("/v1/completions", prompt=["a"] * 5, n=4)
    assert "4 answers" in refused("/v1/completions", prompt=["a"] * 6, n=4).message
    refused("/v1/completions", prompt=["a"] * 6, best_of=6)


def test_pictures_have_a_cap_of_their_own() -> None:
    ask("/v1/images/generations", prompt="a", n=2)
    refused("/v1/images/generations", prompt="a", n=3)


def test_usual_requests_keep_to_the_usual_caps() -> None:
    ask(
        caps=Caps(), n=128, top_logprobs=20, logprobs=True, max_tokens=128_000, stop=["\n\nHuman:", "\n\nObservation:"],
        tools=[tool({"type": "object", "properties": {"a": {"type": "string"}}})] * 100,
    )  # fmt: skip


def test_a_cap_is_at_least_one() -> None:
    with pytest.raises(ValueError, match=r"caps\.tools"):
        Caps(tools=0)


def depth(document: Any) -> int:
    """The plain way to say it."""
    if isinstance(document, dict):
        return 1 + max(map(depth, document.values()), default=0)
    return 1 + max(map(depth, document), default=0) if isinstance(document, list) else 0


_tricky = st.text(st.sampled_from('"\\[]{}ab\n')) | st.none() | st.integers(0, 9)
_documents = st.recursive(
    _tricky,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.sampled_from('"\\[]{}a')), inner, max_size=3)
    ),
    max_leaves=25,
)


@given(_documents, st.integers(1, 8), st.booleans())
def test_depth_is_told_whatever_the_texts_hold(document: Any, levels: int, ascii_only: bool) -> None:
    raw = json.dumps(document, ensure_ascii=ascii_only).encode()
    assert is_deeper(raw, levels) == (depth(document) > levels)


def test_brackets_in_texts_do_not_hide_depth() -> None:
    raw = b'["]"' + b',["]"' * 50 + b',"["]' * 51
    assert depth(json.loads(raw)) == 51
    assert is_deeper(raw, 50)
    assert not is_deeper(raw, 51)
