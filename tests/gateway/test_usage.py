"""Tokens found in answers of all dialects, whole and in pieces."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange import Usage
from gateway.usage import LONGEST_LINE_BYTES, UsageScanner, usage_of

CHAT = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, "prompt_tokens_details": {"cached_tokens": 4}}
RESPONSES = {
    "input_tokens": 11,
    "output_tokens": 7,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens_details": {"reasoning_tokens": 1},
}
ANTHROPIC = {"input_tokens": 5, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 2, "output_tokens": 7}
ALL = Usage(prompt=11, completion=7, cached=4)


def event(document: Any, name: str | None = None) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(document, separators=(',', ':'))}\n\n".encode()


def scanned(*pieces: bytes) -> Usage | None:
    scanner = UsageScanner()
    for piece in pieces:
        scanner.feed(piece)
    return scanner.usage


CHAT_STREAM = (
    event({"id": "1", "choices": [{"delta": {"content": "Hi"}}], "usage": None}),
    event({"id": "1", "choices": [{"delta": {"content": ' "usage":{"prompt_tokens":9}'}}]}),
    event({"id": "1", "choices": [], "usage": CHAT}),
    b"data: [DONE]\n\n",
)
RESPONSES_STREAM = (
    event({"type": "response.created", "response": {"id": "r", "usage": None}}, "response.created"),
    event({"type": "response.output_text.delta", "delta": "Hi"}, "response.output_text.delta"),
    event({"type": "response.completed", "response": {"id": "r", "output": [], "usage": RESPONSES}}),
)
ANTHROPIC_STREAM = (
    event({"type": "message_start", "message": {"id": "m", "usage": {**ANTHROPIC, "output_tokens": 0}}}),
    event({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hi"}}),
    event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}}),
    event({"type": "message_stop"}),
)
STREAMS = (CHAT_STREAM, RESPONSES_STREAM, ANTHROPIC_STREAM)


@pytest.mark.parametrize("counts", [CHAT, RESPONSES, ANTHROPIC])
def test_whole_answers_of_all_dialects(counts: dict[str, Any]) -> None:
    assert usage_of(json.dumps({"id": "1", "choices": [{"text": "usage"}], "usage": counts}).encode()) == ALL


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b'"usage"', b"null", b"\xff", b'{"usage":null}', b'{"usage":5}', b'{"usage":"a lot"}',
        b'{"usage":{"prompt_tokens":"many"}}', b'{"choices":[]}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_answers_without_one(body: bytes) -> None:
    assert usage_of(body) is None


def test_what_a_model_says_about_usage_is_not_believed() -> None:
    said = '{"usage":{"prompt_tokens":1}}'
    assert usage_of(json.dumps({"choices": [{"text": said}], "usage": CHAT}).encode()) == ALL
    tools = [{"name": "f", "parameters": {"usage": {"input_tokens": 1}}}]
    assert usage_of(json.dumps({"usage": RESPONSES, "tools": tools}).encode()) == ALL
    assert scanned(event({"response": {"usage": RESPONSES, "tools": tools}})) == ALL


def test_neither_is_it_in_a_long_answer() -> None:
    tools = [{"name": "f", "parameters": {"usage": {"input_tokens": 1}}}]
    for end in (
        {"tools": tools},
        {"a": {"usage": {"input_tokens": 1}}},
        {"a": {"b": {"usage": {"input_tokens": 1}}}},
        {"a": [tools]},
    ):
        for usage in (RESPONSES, {"nested": {"deeply": {}}, **RESPONSES}):
            document = {"output": "x" * 5000, "usage": usage, **end}
            assert usage_of(json.dumps(document).encode()) == ALL
            assert scanned(event({"response": document})) == ALL


@given(*[st.integers(-(2**70), 2**70)] * 3)
def test_nothing_that_an_engine_says_makes_a_request_cost_less_than_nothing(
    prompt: int, completion: int, cached: int
) -> None:
    counts = {"prompt_tokens": prompt, "completion_tokens": completion}
    said = usage_of(json.dumps({"usage": {**counts, "prompt_tokens_details": {"cached_tokens": cached}}}).encode())
    assert said is None or (0 <= said.cached <= said.prompt < 2**32 and 0 <= said.completion < 2**32)


def test_counts_that_are_left_out_are_zero() -> None:
    assert usage_of(b'{"usage":{"prompt_tokens":3}}') == Usage(3, 0, 0)
    assert usage_of(b'{"usage":{"prompt_tokens":3,"prompt_tokens_details":null}}') == Usage(3, 0, 0)
    assert usage_of(b'{"usage":{}}') == Usage()


@pytest.mark.parametrize("stream", STREAMS)
def test_streams_of_all_dialects(stream: tuple[bytes, ...]) -> None:
    assert scanned(*stream) == ALL
    assert scanned(b"".join(stream)) == ALL


@pytest.mark.parametrize("stream", STREAMS)
def test_streams_in_every_two_pieces_and_byte_by_byte(stream: tuple[bytes, ...]) -> None:
    whole = b"".join(stream)
    for at in range(len(whole)):
        assert scanned(whole[:at], whole[at:]) == ALL
    assert scanned(*(whole[at : at + 1] for at in range(len(whole)))) == ALL


@given(st.sampled_from(STREAMS), st.lists(st.integers(0, 700), max_size=8))
def test_streams_in_any_pieces(stream: tuple[bytes, ...], cuts: list[int]) -> None:
    whole = b"".join(stream)
    at = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    assert scanned(*(whole[start:end] for start, end in pairwise(at))) == ALL


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_bytes_at_all_break_it(pieces: list[bytes]) -> None:
    scanned(*pieces, b'"usage":{', *pieces)


def test_lines_may_end_as_on_windows_or_not_at_all() -> None:
    assert scanned(b"".join(CHAT_STREAM).replace(b"\n", b"\r\n")) == ALL
    assert scanned(CHAT_STREAM[2].rstrip()) == ALL


def test_whole_events_in_the_framing_of_their_chunks() -> None:
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in CHAT_STREAM) + b"0\r\n\r\n"
    assert scanned(framed) == ALL


def test_spaces_after_colons_are_no_hindrance() -> None:
    assert scanned(f"data: {json.dumps({'usage': CHAT})}\n\n".encode()) == ALL


def test_the_last_of_many_counts() -> None:
    rising = [event({"usage": {"prompt_tokens": 3, "completion_tokens": count}}) for count in range(1, 6)]
    assert scanned(*rising) == Usage(3, 5)
    assert scanned(b"".join(rising), event({"usage": None})) == Usage(3, 5)


def test_a_stream_cut_in_the_middle_counts_as_far_as_it_came() -> None:
    assert scanned(*ANTHROPIC_STREAM[:2]) == Usage(prompt=11, completion=0, cached=4)
    assert scanned(ANTHROPIC_STREAM[0], ANTHROPIC_STREAM[2][:40]) == Usage(prompt=11, completion=0, cached=4)
    assert scanned(CHAT_STREAM[0]) is None
    assert scanned() is None


def test_asking_twice_changes_nothing() -> None:
    scanner = UsageScanner()
    scanner.feed(CHAT_STREAM[2].rstrip())
    assert scanner.usage == scanner.usage == ALL


def test_a_line_without_end_is_not_kept() -> None:
    scanner = UsageScanner()
    piece = b"x" * (1 << 18)
    for _ in range(20):
        scanner.feed(piece)
        assert sum(map(len, scanner._rest)) <= LONGEST_LINE_BYTES
    scanner.feed(b"\n")
    assert scanner.usage is None
    scanner.feed(CHAT_STREAM[2])
    assert scanner.usage == ALL, "what comes after it is read as ever"


def test_of_a_very_long_answer_the_end_is_enough() -> None:
    embeddings = {"object": "list", "data": [{"embedding": [0.25] * 400_000}], "model": "m", "usage": CHAT, "id": "e"}
    whole = json.dumps(embeddings).encode()
    assert len(whole) > LONGEST_LINE_BYTES
    assert scanned(*(whole[at : at + 65536] for at in range(0, len(whole), 65536))) == ALL
    completed = event({"type": "response.completed", "response": {"output": "y" * 2_000_000, "usage": RESPONSES}})
    assert scanned(*(completed[at : at + 65536] for at in range(0, len(completed), 65536))) == ALL
