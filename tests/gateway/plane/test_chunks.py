"""Chunked framing: what goes in comes out, however it is cut, and what is not exactly a chunk is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.plane.chunks import (
    LAST,
    LONGEST_SIZE_LINE,
    MOST_SMALL_CHUNKS,
    MOST_TRAILER_BYTES,
    BadChunk,
    Dechunker,
    framed,
    payload_of,
    whole_events,
)

PIECES = st.lists(st.binary(min_size=1, max_size=300), max_size=8)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """``data`` in pieces, cut at these places."""
    places = sorted({place % (len(data) + 1) for place in at})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def read(pieces: list[bytes]) -> tuple[bytes, bool, bytes]:
    """(body, whether it ended, what came after it)"""
    dechunker, after = Dechunker(), b""
    for piece in pieces:
        after += dechunker.feed(piece) if not dechunker.ended else piece
    return dechunker.take(), dechunker.ended, after


@given(PIECES, st.lists(st.integers(0, 10_000), max_size=40), st.binary(max_size=20))
def test_a_body_comes_out_whole_however_it_is_cut(pieces: list[bytes], at: list[int], after: bytes) -> None:
    wire = b"".join(map(framed, pieces)) + LAST + after
    assert read(cut(wire, at)) == (b"".join(pieces), True, after)


@given(PIECES)
def test_byte_by_byte_as_well(pieces: list[bytes]) -> None:
    wire = b"".join(map(framed, pieces)) + LAST
    assert read([wire[i : i + 1] for i in range(len(wire))]) == (b"".join(pieces), True, b"")


@pytest.mark.parametrize("line", [b"5", b"05", b"5;name=value", b"5 ;a;b=c", b'5;a="b c"', b"0000005"])
def test_sizes_and_extensions_are_read(line: bytes) -> None:
    assert read([line + b"\r\nhello\r\n0;last\r\nx-trailer: 1\r\n\r\n"]) == (b"hello", True, b"")


@pytest.mark.parametrize(
    "wire",
    [
        b"\r\n",
        b"g\r\n",
        b"+5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"-1\r\n",
        b"5_0\r\n",
        b" 5\r\nhello\r\n",
        b"5\nhello\r\n",
        b"5\r\nhelloX",
        b"5\r\nhello\n",
        b"5\r\nhello\rX",
        b"5\r\nhello\r\r\n",
        b"fffffffffffffffff\r\n",
        b"5\x00\r\n",
        b"5;\x01\r\n",
        b"5;a\rb\r\nhello\r\n",
        b"1" * (LONGEST_SIZE_LINE + 1),
        b"0\r\na: b\n\r\n",
        b"0\r\n" + b"a" * (MOST_TRAILER_BYTES + 1),
    ],
)
def test_what_is_not_exactly_a_chunk_is_refused(wire: bytes) -> None:
    with pytest.raises(BadChunk):
        read([wire])
    with pytest.raises(BadChunk):
        read([wire[i : i + 1] for i in range(len(wire))])


@given(st.binary(max_size=200))
def test_any_bytes_at_all_end_in_a_body_or_a_refusal(data: bytes) -> None:
    def outcome(pieces: list[bytes]) -> object:
        try:
            return read(pieces)
        except BadChunk:
            return "refused"

    assert outcome([data]) == outcome([data[i : i + 1] for i in range(len(data))])


EVENT = b'data: {"n": 1}\n\n'


def test_whole_events_in_whole_chunks_are_seen_at_a_glance() -> None:
    assert whole_events(framed(EVENT)) == len(EVENT)
    assert whole_events(framed(EVENT) + framed(EVENT * 2)) == 3 * len(EVENT)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        LAST,
        framed(EVENT) + LAST,
        framed(EVENT)[:-1],
        framed(EVENT[:-1]),
        framed(EVENT)[1:],
        b"zz\r\n" + EVENT + b"\r\n",
        framed(b"data: a\r\n\r\n"),
        framed(EVENT[:5]) + framed(EVENT[5:]),
        framed(b"\n"),
    ],
)
def test_anything_else_is_looked_at_closely(data: bytes) -> None:
    assert whole_events(data) == 0


@given(st.lists(st.sampled_from([EVENT, EVENT * 3, b"data: x", b"\n\n", b": c\n\n"]), min_size=1, max_size=5))
def test_what_passes_at_a_glance_is_what_the_close_look_finds(payloads: list[bytes]) -> None:
    wire = b"".join(map(framed, payloads))
    size = whole_events(wire)
    if size:
        assert all(payload.endswith(b"\n\n") for payload in payloads)
        assert size == len(read([wire])[0])


def test_a_body_in_tiny_chunks_is_work_for_nothing() -> None:
    tiny, usual = framed(b"x"), framed(b"x" * 64)
    with pytest.raises(BadChunk, match="small chunks"):
        Dechunker(smallest_bytes=16).feed(tiny * (MOST_SMALL_CHUNKS + 1))
    Dechunker(smallest_bytes=16).feed(tiny * MOST_SMALL_CHUNKS)
    Dechunker(smallest_bytes=16).feed((usual + tiny * 3) * MOST_SMALL_CHUNKS)
    Dechunker().feed(tiny * 10 * MOST_SMALL_CHUNKS)


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=8))
def test_whole_events_without_their_framing(texts: list[bytes]) -> None:
    events = [text.replace(b"\n", b"") + b"x\n\n" for text in texts]
    data = b"".join(framed(one) for one in events)
    assert whole_events(data) == len(b"".join(events))
    assert payload_of(data) == b"".join(events)
