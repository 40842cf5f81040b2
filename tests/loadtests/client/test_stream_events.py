"""The fast reader of events finds what the careful one does."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.client.stream_events import LARGEST_EVENT_BYTES, EventsTooLarge, StreamEvents
from loadtests.sse import SseParser

LINES = [b"data: a", b"data:b", b"data", b"data: {}", b"event: error", b"event:", b": ping", b"id: 7", b"", b""]
ENDS = [b"\n", b"\r\n", b"\r"]


def test_one_event_a_piece_is_the_common_case() -> None:
    assert StreamEvents().feed(b'data: {"a": 1}\n\n') == [(b"", b'{"a": 1}')]


@given(st.lists(st.tuples(st.sampled_from(LINES), st.sampled_from(ENDS))), st.lists(st.integers(0, 400), max_size=8))
def test_the_same_events_as_the_careful_reader_finds(lines: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    stream = b"".join(line + end for line, end in lines) + b"\n\n: the end\n\n"
    careful = [(event.name, event.data) for event in SseParser().feed(stream)]
    reader, found = StreamEvents(), []
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    for begin, end in pairwise(places):
        found += reader.feed(stream[begin:end])
    assert [(name.decode() or "message", data.decode()) for name, data in found] == careful


def test_a_byte_order_mark_is_passed_over_in_pieces_too() -> None:
    reader = StreamEvents()
    assert [event for piece in (b"\xef", b"\xbb", b"\xbfdata: x\n\n") for event in reader.feed(piece)] == [(b"", b"x")]


def test_an_event_without_an_end_is_given_up() -> None:
    reader = StreamEvents()
    with pytest.raises(EventsTooLarge):
        reader.feed(b"data: " + b"x" * LARGEST_EVENT_BYTES)
