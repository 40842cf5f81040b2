"""What is read of a body, and what is said of a wrong one."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects import Dialect
from gateway.endpoints import ENDPOINTS, Endpoint, by_path
from gateway.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType
from gateway.peek import Peek, check_content_type, check_declared_length, peek, peek_beside

CHAT = by_path()["/v1/chat/completions"]
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def wrong(body: bytes, endpoint: Endpoint = CHAT) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        peek(body, endpoint)
    assert refused.value.status == 400
    return refused.value


def test_model_and_stream_are_found_among_everything_else() -> None:
    body = (
        b'{"messages": [{"role": "user", "content": "\\ud83d\\ude80 model"}], "model": "m", "n": 1e3, "stream": true}'
    )
    assert peek(body, CHAT) == Peek(model="m", stream=True)


@pytest.mark.parametrize("stream", ["false", "null", '"yes"', "1"])
def test_only_true_is_streaming_and_the_engine_judges_the_rest(stream: str) -> None:
    assert not peek(f'{{"model": "m", "stream": {stream}}}'.encode(), CHAT).stream


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nope", b'{"model": "m"', b'{"model": "m"} x', b"{'model': 'm'}", b"\xff\xfe"]
)
def test_malformed_json(body: bytes) -> None:
    error = wrong(body)
    assert error.code == "invalid_json"
    assert "JSON" in error.message


@pytest.mark.parametrize("body", [b"[]", b'"m"', b"1", b"null", b"true"])
def test_json_that_is_not_an_object(body: bytes) -> None:
    assert "object" in wrong(body).message


@pytest.mark.parametrize(
    "body", [b"{}", b'{"model": null}', b'{"model": ""}', b'{"model": "  "}', b'{"model": 1}', b'{"model": ["m"]}']
)
def test_a_missing_or_wrong_model_is_named(body: bytes) -> None:
    error = wrong(body)
    assert error.param == "model"
    assert "'model'" in error.message


def test_a_model_name_of_a_megabyte_is_refused_without_repeating_it() -> None:
    error = wrong(json.dumps({"model": "x" * 1_000_000}).encode())
    assert error.param == "model"
    assert len(error.message) < 200


def test_nesting_cannot_exhaust_the_stack() -> None:
    for body in (b"[" * 100_000, b'{"model": "m", "x": ' + b'{"a":' * 50_000):
        assert wrong(body).code == "invalid_json"


def test_another_field_may_name_the_model() -> None:
    endpoint = Endpoint("/x", "x", "generate", "input", Dialect.OPENAI, model_field="engine")
    assert peek(b'{"engine": "m", "model": 1}', endpoint).model == "m"
    assert wrong(b'{"model": "m"}', endpoint).param == "engine"


@given(st.dictionaries(st.text().filter(lambda key: key not in ("model", "stream")), _json, max_size=5), st.booleans())
def test_any_object_with_a_model_is_read(fields: dict[str, Any], stream: bool) -> None:
    body = json.dumps({**fields, "model": "org/some-model", "stream": stream}).encode()
    assert peek(body, CHAT) == Peek("org/some-model", stream)


@given(st.binary(max_size=200))
def test_no_bytes_at_all_break_it(body: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        assert peek(body, CHAT).model


@pytest.mark.parametrize("said", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"])
def test_json_by_its_content_types(said: str) -> None:
    check_content_type(said, None)
    check_content_type(said, "identity")


@pytest.mark.parametrize(
    "said", [None, "", "text/plain", "multipart/form-data; boundary=x", "application/jsonx", "json"]
)
def test_other_content_types(said: str | None) -> None:
    with pytest.raises(UnsupportedMediaType, match="application/json"):
        check_content_type(said, None)


def test_compressed_bodies_are_named_as_such() -> None:
    with pytest.raises(UnsupportedMediaType, match="ompressed"):
        check_content_type("application/json", "gzip")


def test_a_declared_length_over_the_cap_is_refused_before_reading() -> None:
    check_declared_length("100", 100)
    check_declared_length(None, 100)
    with pytest.raises(BodyTooLarge, match="100 bytes"):
        check_declared_length("101", 100)


def test_two_endpoints_cannot_claim_one_path() -> None:
    with pytest.raises(ValueError, match="/v1/chat/completions"):
        by_path((*ENDPOINTS, CHAT))


@pytest.mark.parametrize(
    ("body", "stream"),
    [
        (b'{"inputs": [1], "stream": true}', True),
        (b'{"inputs": [1], "stream": "yes"}', False),
        (b'{"model": 5}', False),
        (b"[1, 2]", False),
        (b'"a text"', False),
        (b"null", False),
        (b" 5 ", False),
    ],
)
def test_beside_a_model_in_the_path_the_body_is_any_json(body: bytes, stream: bool) -> None:
    assert peek_beside(body, "org/m") == Peek("org/m", stream)


@pytest.mark.parametrize("body", [b"", b"{", b"nope", b'{"a": 1} x', b"[" * 100_000, b"[1,", b"[1 2]"])
def test_beside_a_model_in_the_path_it_must_be_json_all_the_same(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        peek_beside(body, "m")
    assert refused.value.code == "invalid_json"


@pytest.mark.parametrize("model", [" ", "x" * 513])
def test_a_path_that_names_no_model(model: str) -> None:
    with pytest.raises(InvalidRequest, match="GET /v1/models") as refused:
        peek_beside(b"{}", model)
    assert refused.value.param == "model"
