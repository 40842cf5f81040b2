"""Forms in pieces: where they are cut changes nothing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BodyTooLarge, GatewayError, InvalidRequest, UnsupportedMediaType
from gateway.files.form import FileForm

TYPE = "multipart/form-data; boundary=----x"
FIELDS = '------x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
FILE = '------x\r\nContent-Type: text/x\r\nContent-Disposition: form-data; name="file"; filename="a b.txt"\r\n\r\n'
END = b"\r\n------x--\r\n"


def form_of(content: bytes) -> bytes:
    return FIELDS.encode() + FILE.encode() + content + END


def read(pieces: Sequence[bytes], most_bytes: int = 1 << 20) -> tuple[FileForm, bytes]:
    form = FileForm(TYPE, most_bytes)
    out = bytearray()

    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def write(data: bytes) -> None:
        out.extend(data)

    asyncio.run(form.read(body(), write))
    return form, bytes(out)


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(ends)]


@given(content=st.binary(max_size=300), places=st.lists(st.integers(min_value=0, max_value=1000), max_size=12))
def test_cut_anywhere_it_is_the_same_file(content: bytes, places: list[int]) -> None:
    form, out = read(cut(form_of(content), places))
    assert (out, form.fields, form.filename) == (content, {"purpose": "batch"}, "a b.txt")
    assert form.size_bytes == len(content)


def test_byte_by_byte_with_what_looks_like_a_boundary() -> None:
    content = b"\r\n------\r\n------x-no\r\n--\r\n------y--\r\n\r"
    whole = form_of(content)
    assert read([whole[at : at + 1] for at in range(len(whole))])[1] == content


@given(st.binary(max_size=400), st.lists(st.integers(min_value=0, max_value=400), max_size=5))
def test_whatever_comes_it_is_read_or_refused(data: bytes, places: list[int]) -> None:
    with pytest.raises(GatewayError) as refused:  # no random bytes are a whole form
        read(cut(data, places))
    assert refused.value.status == 400


def test_a_form_that_ends_too_early_at_any_byte() -> None:
    whole = form_of(b"content")
    last_boundary = len(whole) - len(b"\r\n")
    for end in range(last_boundary):
        with pytest.raises(InvalidRequest):
            read([whole[:end]])
    assert read([whole[:last_boundary]])[1] == b"content"


def test_the_limit_is_of_the_file() -> None:
    assert read([form_of(b"x" * 100)], most_bytes=100)[1] == b"x" * 100
    with pytest.raises(BodyTooLarge):
        read([form_of(b"x" * 101)], most_bytes=100)


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "multipart/form-data", "multipart/mixed; boundary=x"])
def test_what_is_no_form(content_type: str | None) -> None:
    with pytest.raises(UnsupportedMediaType):
        FileForm(content_type, 1)


def test_a_boundary_as_long_as_a_novel() -> None:
    with pytest.raises(UnsupportedMediaType):
        FileForm("multipart/form-data; boundary=" + "x" * 1000, 1)
