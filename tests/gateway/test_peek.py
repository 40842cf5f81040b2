"""What is read of a body, and what is said of a wrong one."""

from __future__ import annotations

import contextlib
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects import Dialect
from gateway.endpoints import ENDPOINTS, Endpoint, by_path
from gateway.errors import InvalidRequest, UnsupportedMediaType
from gateway.greed import COUNTS, SEQUENCES, Caps
from gateway.inquiry import Peek
from gateway.peek import USUAL_ANSWER_TOKENS, check_content_type
from gateway.peek import peek as peek_with
from gateway.peek import peek_beside as peek_beside_with

PATHS = by_path()
CHAT = PATHS["/v1/chat/completions"]
CAPS = Caps()
NOWHERE: frozenset[str] = frozenset()
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def peek(body: bytes, endpoint: Endpoint = CHAT) -> Peek:
    return peek_with(body, endpoint, CAPS, NOWHERE)


def routed(body: bytes, endpoint: Endpoint = CHAT) -> tuple[str, bool]:
    found = peek(body, endpoint)
    assert found.tokens >= 1
    return found.model, found.stream


def peek_beside(body: bytes, model: str) -> Peek:
    return peek_beside_with(body, model, CAPS)


def wrong(body: bytes, endpoint: Endpoint = CHAT) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        peek(body, endpoint)
    assert refused.value.status == 400
    return refused.value


def test_model_and_stream_are_found_among_everything_else() -> None:
    body = (
        b'{"messages": [{"role": "user", "content": "\\ud83d\\ude80 model"}], "model": "m", "n": 1e1, "stream": true}'
    )
    assert routed(body) == ("m", True)


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


@given(
    st.dictionaries(
        st.text().filter(lambda key: key not in ("model", "stream", *COUNTS, *SEQUENCES)), _json, max_size=5
    ),
    st.booleans(),
)
def test_any_object_with_a_model_is_read(fields: dict[str, Any], stream: bool) -> None:
    body = json.dumps({**fields, "model": "org/some-model", "stream": stream}).encode()
    assert routed(body) == ("org/some-model", stream)


@given(st.binary(max_size=200))
def test_no_bytes_at_all_break_it(body: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        assert peek(body, CHAT).model


_parts = st.lists(
    st.sampled_from(
        [b'"image_url":', b'"url"', b'"http://10.0.0.1/"', b"{", b"}", b"[", b"]", b",", b":", b'"\\ud800"', b"1e999",
         b'"a"', b"\xff", b'"\\u0075rl"', b'"\\', b"null", b" "]
    ),
    max_size=30,
)  # fmt: skip


@given(
    _parts, st.sampled_from(["/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/rerank", "/v1/completions"])
)
def test_no_content_at_all_breaks_it(parts: list[bytes], path: str) -> None:
    endpoint = PATHS[path]
    body = b'{"model":"m","%b":[%b]}' % (endpoint.prompt_field.encode(), b"".join(parts))
    with contextlib.suppress(InvalidRequest):
        assert peek(body, endpoint).model == "m"


@pytest.mark.parametrize("odd", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xe9"])
def test_texts_are_utf_8_wherever_they_are(odd: bytes) -> None:
    for body in (b'{"model":"%b"}', b'{"%b":1,"model":"m"}', b'{"model":"m","x":["%b"]}'):
        assert wrong(body % odd).code == "invalid_json"
        with pytest.raises(InvalidRequest, match="UTF-8"):
            peek_beside(body % odd, "m")


def test_what_was_passed_over_may_be_malformed_when_it_is_looked_at() -> None:
    assert (
        wrong(b'{"model":"m","messages":[{"content":[{"image_url":"data:,","x":"\\ud800"}]}]}').code == "invalid_json"
    )


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


@pytest.mark.parametrize("encoding", ["gzip", "GZip", " deflate ", "x-gzip", "identity", ""])
def test_compressed_bodies_are_let_through_to_be_unpacked(encoding: str) -> None:
    check_content_type("application/json", encoding)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress"])
def test_other_compressions_are_named_as_such(encoding: str) -> None:
    for body in ("json", "form"):
        with pytest.raises(UnsupportedMediaType, match="gzip or deflate"):
            check_content_type("application/json", encoding, body)


def test_forms_are_for_those_who_read_them() -> None:
    check_content_type("multipart/form-data; boundary=x", None, "form")
    check_content_type(None, None, "none")


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
    found = peek_beside(body, "org/m")
    assert (found.model, found.stream) == ("org/m", stream)
    assert found.tokens >= 1


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


# -- how much work it is ---------------------------------------------------------------------------------------------


def tokens(endpoint: Endpoint = CHAT, **fields: Any) -> int:
    return peek(json.dumps({"model": "m", **fields}).encode(), endpoint).tokens


def chat(*texts: str) -> list[dict[str, Any]]:
    """User and assistant in turns."""
    return [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]


def test_more_text_and_longer_answers_are_more_work() -> None:
    little = tokens(messages=chat("Hi"))
    assert little < tokens(messages=chat("word " * 100)) < tokens(messages=chat("word " * 10_000))
    assert tokens(messages=chat("Hi"), max_tokens=10) < little < tokens(messages=chat("Hi"), max_tokens=1000)
    assert tokens(messages=chat("Hi"), max_tokens=100, n=5) >= 500


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/chat/completions", "max_tokens"),
        ("/v1/chat/completions", "max_completion_tokens"),
        ("/v1/completions", "max_tokens"),
        ("/v1/responses", "max_output_tokens"),
        ("/v1/messages", "max_tokens"),
    ],
)
def test_each_endpoint_has_its_own_word_for_the_longest_answer(path: str, name: str) -> None:
    asked: dict[str, Any] = {name: 5000, "messages": []}
    assert 5000 <= tokens(PATHS[path], **asked) < 5100


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/chat/completions", "max_output_tokens"),
        ("/v1/completions", "max_completion_tokens"),
        ("/v1/responses", "max_tokens"),
        ("/v1/messages", "max_output_tokens"),
    ],
)
def test_another_endpoints_word_for_it_bounds_nothing(path: str, name: str) -> None:
    """Engines read it over: a caller could name a small one and have as much as there is."""
    body = json.dumps({"model": "m", "messages": [], name: 1}).encode()
    assert not peek(body, PATHS[path]).bounded


def test_of_two_words_the_larger_counts() -> None:
    for one, other in ((1, 900), (900, 1)):
        body = json.dumps({"model": "m", "messages": [], "max_tokens": one, "max_completion_tokens": other}).encode()
        assert (peek(body, CHAT).answer_tokens, peek(body, CHAT).bounded) == (900, True)
    body = b'{"model": "m", "messages": [], "max_tokens": 1, "max_completion_tokens": "900"}'
    assert not peek(body, CHAT).bounded


@pytest.mark.parametrize("odd", [None, 0, -5, "many", [1], True])
def test_an_odd_length_is_the_usual_one(odd: Any) -> None:
    assert tokens(messages=[], max_tokens=odd) >= USUAL_ANSWER_TOKENS


def test_only_what_generates_has_an_answer_to_count() -> None:
    assert tokens(PATHS["/v1/embeddings"], input="word") < 20


def test_images_are_not_counted_as_if_they_were_text() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    assert tokens(messages=[{"role": "user", "content": [image, image]}]) < 1000


# -- what it begins with ---------------------------------------------------------------------------------------------


def prefix(endpoint: Endpoint = CHAT, **fields: Any) -> int:
    return peek(json.dumps({"model": "m", **fields}).encode(), endpoint).prefix


def test_all_turns_of_a_conversation_begin_alike() -> None:
    first = prefix(messages=chat("What is a roundhouse?"))
    assert first == prefix(messages=chat("What is a roundhouse?", "A shed."), temperature=1)
    assert first == prefix(messages=chat("What is a roundhouse?", "A shed.", "How big?", "Very."))
    assert first != prefix(messages=chat("What is a signal box?"))


def test_long_instructions_are_what_conversations_have_in_common() -> None:
    system = {"role": "system", "content": "Be brief. " * 200}
    assert prefix(messages=[system, *chat("a")]) == prefix(messages=[system, *chat("b")])


@pytest.mark.parametrize(
    ("path", "before", "prompt"),
    [("/v1/responses", "instructions", "input"), ("/v1/messages", "system", "messages")],
)
def test_instructions_beside_the_prompt_are_part_of_the_beginning(path: str, before: str, prompt: str) -> None:
    endpoint = PATHS[path]
    one = prefix(endpoint, **{before: "Be brief.", prompt: chat("a")})
    assert one == prefix(endpoint, **{prompt: chat("a", "b", "c"), before: "Be brief."})
    assert one != prefix(endpoint, **{before: "Be long.", prompt: chat("a")})


def test_prompts_that_go_on_after_a_kilobyte_begin_alike() -> None:
    endpoint = PATHS["/v1/completions"]
    assert prefix(endpoint, prompt="x" * 2000) == prefix(endpoint, prompt="x" * 3000)
    assert prefix(endpoint, prompt="x") != prefix(endpoint, prompt="y")


def test_the_callers_own_word_for_it_goes_before_all() -> None:
    assert prefix(messages=chat("a"), prompt_cache_key="k") == prefix(messages=chat("b"), prompt_cache_key="k")
    assert prefix(messages=chat("a"), prompt_cache_key="k") != prefix(messages=chat("a"), prompt_cache_key="l")


def test_what_no_cache_helps_has_no_beginning() -> None:
    assert prefix(PATHS["/v1/embeddings"], input="text") == 0


def test_it_is_the_same_in_every_process() -> None:
    # Workers must agree: Python's own hash() differs from one to the next.
    assert prefix(messages=chat("Hi")) == zlib.crc32(b'[{"role": "user", "content": "Hi"')
