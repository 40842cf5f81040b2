"""What is read of a multipart form: its model, whether it wants a stream, and nothing else; it goes on as it came."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.endpoints import by_path
from gateway.errors import GatewayError, InvalidRequest, UnsupportedMediaType
from gateway.forms import LONGEST_SHORT_FIELD, MOST_PARTS, peek_form, renamed
from gateway.inquiry import Peek
from tests.gateway.multipart import BOUNDARY, CONTENT_TYPE, form, part

EAR = by_path()["/v1/audio/transcriptions"]
SOUND = part("file", b"RIFF\r\n--x\r\n\x00\xff", filename="a.wav")


def peeked(*parts: bytes, content_type: str | None = CONTENT_TYPE) -> Peek:
    return peek_form(form(*parts), EAR, content_type)


def refusal(*parts: bytes, content_type: str | None = CONTENT_TYPE) -> GatewayError:
    with pytest.raises(GatewayError) as refused:
        peeked(*parts, content_type=content_type)
    return refused.value


def test_the_model_is_found_wherever_it_stands() -> None:
    name, other = part("model", b"org/tiny-ear"), part("language", b"en")
    for parts in ((name, SOUND), (SOUND, name), (other, SOUND, name, other)):
        assert peeked(*parts).model == "org/tiny-ear"


@pytest.mark.parametrize(
    ("value", "stream"), [("true", True), ("True", True), ("1", True), ("false", False), ("", False)]
)
def test_a_stream_is_wanted_where_the_form_says_so(value: str, stream: bool) -> None:
    assert peeked(part("model", b"m"), part("stream", value.encode()), SOUND).stream is stream
    assert peeked(part("model", b"m"), SOUND).stream is False


def test_more_sound_is_more_work() -> None:
    second = part("file", bytes(32_000), filename="a.wav")
    assert 50 <= peeked(part("model", b"m"), second).tokens <= 52
    assert peeked(part("model", b"m")).tokens == 1


@pytest.mark.parametrize(
    "parts", [(SOUND,), (part("model", b""), SOUND), (part("model", b"  "),), (part("models", b"m"),)]
)
def test_a_form_without_a_model_is_refused_by_the_fields_name(parts: tuple[bytes, ...]) -> None:
    error = refusal(*parts)
    assert (error.status, error.param) == (400, "model")
    assert "'model' is required" in error.message


def test_two_models_in_one_form_are_refused_since_engines_might_read_the_other_one() -> None:
    error = refusal(part("model", b"mine"), SOUND, part("model", b"yours"))
    assert (error.param, error.code) == ("model", "invalid_form")


def test_a_model_is_no_file_no_novel_and_no_noise() -> None:
    assert "not a file" in refusal(part("model", b"m", filename="m")).message
    assert "too long" in refusal(part("model", b"m" * (LONGEST_SHORT_FIELD + 1))).message
    assert "longer than 512" in refusal(part("model", b"m" * 513)).message
    assert "not UTF-8" in refusal(part("model", b"\xff\xfe")).message


@pytest.mark.parametrize("content_type", [None, "", "application/json", "multipart/mixed; boundary=b"])
def test_what_is_not_said_to_be_a_form_is_none(content_type: str | None) -> None:
    error = refusal(part("model", b"m"), content_type=content_type)
    assert isinstance(error, UnsupportedMediaType)
    assert "send 'content-type: multipart/form-data'" in error.message


def test_a_form_without_a_boundary_cannot_be_read() -> None:
    assert "no boundary" in refusal(part("model", b"m"), content_type="multipart/form-data").message


@pytest.mark.parametrize(
    "body",
    [b"", b"no form at all", f"--{BOUNDARY}\r\n".encode(), form(part("model", b"m"))[:-8], b'{"model": "m"}'],
)
def test_a_broken_form_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        peek_form(body, EAR, CONTENT_TYPE)
    assert refused.value.code == "invalid_form"


def test_thousands_of_parts_are_refused_before_any_is_read() -> None:
    crowd = form(*[part("x", b"")] * 100_000)
    with pytest.raises(InvalidRequest, match=f"more than {MOST_PARTS} parts"):
        peek_form(crowd, EAR, CONTENT_TYPE)


def test_another_name_changes_nothing_else_of_the_form() -> None:
    before = form(SOUND, part("model", b"tiny-ear"), part("prompt", b"tiny-ear, model"))
    after = renamed(before, EAR, CONTENT_TYPE, "whisper/large")
    assert after == form(SOUND, part("model", b"whisper/large"), part("prompt", b"tiny-ear, model"))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_form_or_an_error_of_the_callers(noise: bytes) -> None:
    for body in (noise, form(part("model", b"m"), noise), form(noise, part("model", b"m"))):
        assert 200 <= outcome(body) < 500


def outcome(body: bytes) -> int:
    try:
        return 200 if peek_form(body, EAR, CONTENT_TYPE).model else 500
    except GatewayError as error:
        return error.status


@given(st.binary(max_size=200), st.text(min_size=1, max_size=40).filter(lambda name: not name.isspace()))
def test_any_sound_and_any_name_come_through(sound: bytes, name: str) -> None:
    if BOUNDARY.encode() in sound:
        return
    assert peeked(part("file", sound, filename="a"), part("model", name.encode())).model == name
