"""Server-sent events come out the same however the bytes were cut up on the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests import sse
from loadtests.sse import SseError, SseEvent, SseParser


def events(*pieces: bytes) -> list[SseEvent]:
    parser = SseParser()
    return [event for piece in pieces for event in parser.feed(piece)]


def test_an_event_ends_at_the_blank_line() -> None:
    parser = SseParser()
    assert parser.feed(b"data: hello\n") == []
    assert parser.in_event
    assert parser.feed(b"\n") == [SseEvent("hello")]
    assert not parser.in_event


def test_a_named_event_keeps_its_name_and_the_next_one_has_none() -> None:
    assert events(b"event: error\ndata: {}\n\ndata: x\n\n") == [SseEvent("{}", "error"), SseEvent("x")]


def test_data_lines_are_joined_and_lose_one_leading_space_only() -> None:
    assert events(b"data:a\ndata:  b\ndata\n\n") == [SseEvent("a\n b\n")]


def test_comments_unknown_fields_and_empty_events_say_nothing() -> None:
    assert events(b": ping\n\nid: 7\nretry: 10\nevent: only\n\nother: x\ndata: y\n\n") == [SseEvent("y")]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_all_three_line_ends(end: bytes) -> None:
    assert events(end.join([b"event: a", b"data: 1", b"", b"data: 2", b"", b""])) == [SseEvent("1", "a"), SseEvent("2")]


def test_cr_and_lf_in_two_pieces_are_one_line_end() -> None:
    assert events(b"data: 1\r", b"\ndata: 2\r", b"\n\r", b"\n") == [SseEvent("1\n2")]


def test_a_byte_order_mark_at_the_start_is_skipped_even_in_pieces() -> None:
    assert events(b"\xef", b"\xbb", b"\xbfdata: x\n\n") == [SseEvent("x")]


def test_a_character_cut_in_two_arrives_whole() -> None:
    whole = "data: größe\n\n".encode()
    assert events(whole[:9], whole[9:]) == [SseEvent("größe")]


def test_what_is_not_utf8_is_refused() -> None:
    with pytest.raises(SseError, match="UTF-8"):
        events(b"data: \xff\n\n")


def test_an_endless_event_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "LARGEST_EVENT_BYTES", 100)
    with pytest.raises(SseError, match="larger than 100 bytes"):
        events(*[b"data: 0123456789\n"] * 20)
    assert events(*[b"data: 0123456789\n\n"] * 20) == [SseEvent("0123456789")] * 20


texts = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))


@given(
    given_events=st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), max_size=6),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    data=st.data(),
)
def test_any_cut_gives_the_same_events(
    given_events: list[tuple[str, list[str]]], end: str, data: st.DataObject
) -> None:
    text = "".join(
        f"event: {name}{end}" + "".join(f"data: {line}{end}" for line in lines) + end for name, lines in given_events
    )
    whole = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert events(*pieces) == [SseEvent("\n".join(lines), name or "message") for name, lines in given_events]
