"""Compressed bodies: unpacked up to the cap, whoever made them."""

from __future__ import annotations

import contextlib
import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BodyTooLarge, GatewayError, InvalidRequest, UnsupportedMediaType
from gateway.gunzip import ENCODINGS, MOST_MEMBERS, gunzip

BODY = b'{"model": "m", "messages": []}'
MOST = 1 << 20


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [
        (gzip.compress(BODY, mtime=0), "gzip"),
        (gzip.compress(BODY, mtime=0), " GZIP"),
        (gzip.compress(BODY, mtime=0), "x-gzip"),
        (gzip.compress(BODY[:9], mtime=0) + gzip.compress(BODY[9:], mtime=0), "gzip"),
        (zlib.compress(BODY), "deflate"),
        (raw_deflate(BODY), "deflate"),
        (BODY, "identity"),
        (BODY, ""),
    ],
)
def test_all_that_clients_send(packed: bytes, encoding: str) -> None:
    assert gunzip(packed, encoding, MOST) == BODY


@given(st.binary(max_size=3000), st.integers(0, 9))
def test_any_body_comes_back_as_it_was(body: bytes, level: int) -> None:
    assert gunzip(gzip.compress(body, level, mtime=0), "gzip", MOST) == body
    assert gunzip(zlib.compress(body, level), "deflate", MOST) == body
    assert gunzip(raw_deflate(body), "deflate", MOST) == body


@given(st.binary(max_size=200), st.sampled_from(ENCODINGS))
def test_no_bytes_at_all_break_it(body: bytes, encoding: str) -> None:
    with contextlib.suppress(GatewayError):
        assert len(gunzip(body, encoding, MOST)) <= MOST


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [
        (b"", "gzip"),
        (BODY, "gzip"),
        (gzip.compress(BODY, mtime=0)[:-1], "gzip"),
        (gzip.compress(BODY, mtime=0)[:12], "gzip"),
        (gzip.compress(BODY, mtime=0)[:-8] + b"\0" * 8, "gzip"),
        (gzip.compress(BODY, mtime=0) + b"more", "gzip"),
        (zlib.compress(BODY), "gzip"),
        (b"", "deflate"),
        (zlib.compress(BODY)[:-3], "deflate"),
        (zlib.compress(BODY) + b"more", "deflate"),
        (BODY, "deflate"),
    ],
)
def test_what_is_not_what_it_says(packed: bytes, encoding: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        gunzip(packed, encoding, MOST)
    assert (error.value.status, error.value.code) == (400, "invalid_encoding")


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "zstd"])
def test_other_encodings_are_refused_by_name(encoding: str) -> None:
    with pytest.raises(UnsupportedMediaType, match=encoding):
        gunzip(BODY, encoding, MOST)


def test_the_cap_is_on_what_is_unpacked() -> None:
    packed = gzip.compress(b"x" * 1000, mtime=0)
    assert len(gunzip(packed, "gzip", 1000)) == 1000
    with pytest.raises(BodyTooLarge, match="999 bytes"):
        gunzip(packed, "gzip", 999)
    halves = gzip.compress(b"x" * 500, mtime=0) * 2
    assert len(gunzip(halves, "gzip", 1000)) == 1000
    with pytest.raises(BodyTooLarge, match="999 bytes"):
        gunzip(halves, "gzip", 999)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_costs_no_more_than_the_cap(encoding: str) -> None:
    packer = zlib.compressobj(9, wbits=31 if encoding == "gzip" else 15)
    bomb = b"".join(packer.compress(b"\0" * MOST) for _ in range(200)) + packer.flush()
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge):
            gunzip(bomb, encoding, MOST)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 4 * MOST


def test_members_are_few() -> None:
    # Each is followed by all the others: a great many empty ones would take time by the square of their number.
    assert gunzip(gzip.compress(b"ab", mtime=0) * MOST_MEMBERS, "gzip", MOST) == b"ab" * MOST_MEMBERS
    with pytest.raises(InvalidRequest, match="members"):
        gunzip(gzip.compress(b"", mtime=0) * 100_000, "gzip", MOST)
