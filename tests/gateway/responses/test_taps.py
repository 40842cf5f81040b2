"""The finished response is found in a stream wherever the stream is cut; nothing else is taken for it or kept."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.responses.taps import StreamTap, WholeTap
from tests.gateway.kept_world import stream_of

MOST = 100_000
TRAP = "event: response.completed\ndata: {}\n\nevent: response.failed"


def response(text: str) -> dict[str, object]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"id": "resp_1", "status": "completed", "output": [{"id": "m", "type": "message", "content": content}]}


def kept_of(tap_type: type[WholeTap], pieces: list[bytes], most_bytes: int = MOST) -> list[bytes]:
    kept: list[bytes] = []
    tap = tap_type(kept.append, most_bytes)
    for piece in pieces:
        tap.feed(piece)
    tap.done()
    return kept


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(ends)]


@given(
    text=st.text(max_size=60) | st.just(TRAP),
    places=st.lists(st.integers(min_value=0, max_value=5000), max_size=20),
    newline=st.sampled_from([b"\n", b"\r\n"]),
)
def test_cut_anywhere(text: str, places: list[int], newline: bytes) -> None:
    made = response(text)
    stream = b"".join(stream_of(made)).replace(b"\n", newline)
    (kept,) = kept_of(StreamTap, cut(stream, places))
    assert json.loads(kept)["response"] == made


def test_byte_by_byte() -> None:
    stream = b"".join(stream_of(response(TRAP)))
    (kept,) = kept_of(StreamTap, [stream[at : at + 1] for at in range(len(stream))])
    assert json.loads(kept)["type"] == "response.completed"


@pytest.mark.parametrize("end", ["incomplete", "failed"])
def test_the_other_ends(end: str) -> None:
    event = f'event: response.{end}\ndata: {{"response": {{"id": "r"}}}}\n\n'.encode()
    assert kept_of(StreamTap, [event]) == [b'{"response": {"id": "r"}}']


def test_a_stream_without_an_end_is_not_kept() -> None:
    events = stream_of(response("x"))
    assert kept_of(StreamTap, events[:-1]) == []
    kept: list[bytes] = []
    tap = StreamTap(kept.append, MOST)
    tap.feed(b"".join(events))
    tap.broken()
    assert kept == []


def test_what_is_too_large_is_not_kept() -> None:
    assert kept_of(WholeTap, [b"x" * 60, b"x" * 40], most_bytes=100) == [b"x" * 100]
    assert kept_of(WholeTap, [b"x" * 60, b"x" * 41, b"x"], most_bytes=100) == []
    assert kept_of(StreamTap, stream_of(response("x" * 200)), most_bytes=100) == []


def test_a_long_stream_leaves_nothing_in_memory() -> None:
    tap = StreamTap(lambda document: None, MOST)
    delta = stream_of(response("word " * 3))[1]
    for _ in range(10_000):
        tap.feed(delta)
        tap.feed(b"data: half an event")
        tap.feed(b" and the rest\n\n")
    assert len(tap._tail) < 100
    assert tap._parts == []
