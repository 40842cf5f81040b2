"""Only whole events pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sse import LONGEST_EVENT_BYTES, WholeEvents

_line = st.text(st.characters(codec="ascii", exclude_characters="\r\n"), min_size=1, max_size=20)
_events = st.lists(_line.map(lambda line: f"data: {line}".encode()), max_size=8)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]]


@given(_events, st.sampled_from([b"\n\n", b"\r\n\r\n"]), st.lists(st.integers(1, 15), max_size=20))
def test_however_the_stream_is_cut_events_come_out_whole_and_unchanged(
    events: list[bytes], end: bytes, sizes: list[int]
) -> None:
    stream = b"".join(event + end for event in events)
    whole = WholeEvents()
    out = [whole.feed(piece) for piece in cut(stream, sizes)]
    assert b"".join(out) == stream
    assert all(piece == b"" or piece.endswith(end) for piece in out)
    assert whole.rest() == b""


@given(_events, st.binary(min_size=1, max_size=10).filter(lambda b: b"\n" not in b and b"\r" not in b))
def test_an_unfinished_end_is_kept_back(events: list[bytes], rest: bytes) -> None:
    stream = b"".join(event + b"\n\n" for event in events)
    whole = WholeEvents()
    assert whole.feed(stream + rest) == stream
    assert whole.rest() == rest


def test_an_event_does_not_wait_for_the_next_one() -> None:
    whole = WholeEvents()
    assert whole.feed(b"data: 1\n\ndata:") == b"data: 1\n\n"
    assert whole.feed(b" 2") == b""
    assert whole.feed(b"\n\n") == b"data: 2\n\n"


@pytest.mark.parametrize("extra", [0, 1])
def test_what_never_ends_is_not_kept_for_ever(extra: int) -> None:
    whole = WholeEvents()
    out = whole.feed(b"x" * (LONGEST_EVENT_BYTES + extra))
    assert (out == b"") == (extra == 0)
