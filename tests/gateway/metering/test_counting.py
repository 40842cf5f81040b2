"""Tokens counted as they are passed on, and what the caller did not ask for taken out."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.endpoints import ENDPOINTS, by_path
from gateway.exchange import Usage
from gateway.inquiry import Peek
from gateway.metering.counting import End, Pieces, Told, count_for
from gateway.metering.wishes import NOTHING, Wish

PATHS = by_path(ENDPOINTS)
CHAT = PATHS["/v1/chat/completions"]
DONE = b"data: [DONE]\n\n"
WISHES = (NOTHING, Wish(last=True), Wish(last=True, each=True))


def event(text: str | None, prompt: int, completion: int | None, choice: int = 0, **more: Any) -> bytes:
    """As vLLM writes it. ``completion`` None: without a usage; ``text`` None: without a choice."""
    choices = [] if text is None else [{"index": choice, "delta": {"content": text}, "finish_reason": None}]
    fields: dict[str, Any] = {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": choices, **more}
    if completion is not None:
        fields["usage"] = {
            "prompt_tokens": prompt,
            "total_tokens": prompt + completion,
            "completion_tokens": completion,
        }
    return b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n"


def stream(words: list[str], prompt: int = 7) -> list[bytes]:
    told = [event(word, prompt, number + 1) for number, word in enumerate(words)]
    return [event("", prompt, 0), *told, event(None, prompt, len(words)), DONE]


def wanted(words: list[str], wish: Wish, prompt: int = 7) -> list[bytes]:
    """What a caller with this wish is to see."""
    shown = [event(word, prompt, number if wish.each else None) for number, word in enumerate(["", *words])]
    return [*shown, *([event(None, prompt, len(words))] if wish.last else []), DONE]


def fed(count: Told | Pieces, data: list[bytes]) -> bytes:
    return b"".join(count.feed(piece) for piece in data)


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("sole", [True, False])
def test_a_caller_sees_what_it_asked_for(wish: Wish, sole: bool) -> None:
    words = ["Hi", ' "usage":{"prompt_tokens":7,', "}}"]
    count = Told(wish, sole=sole)
    assert fed(count, stream(words)) == b"".join(wanted(words, wish))
    assert count.usage(complete=True) == (Usage(7, 3, 0), False)


@given(
    st.lists(st.text(max_size=12), max_size=12),
    st.sampled_from(WISHES),
    st.lists(st.integers(0, 16), max_size=8),
    st.booleans(),
)
def test_however_events_come_together(words: list[str], wish: Wish, cuts: list[int], sole: bool) -> None:
    events = stream(words)
    ends = sorted({min(cut, len(events)) for cut in cuts} | {0, len(events)})
    pieces = [b"".join(events[start:end]) for start, end in pairwise(ends)]
    count = Told(wish, sole=sole)
    assert fed(count, pieces) == b"".join(wanted(words, wish))
    assert count.usage(complete=True) == (Usage(7, len(words), 0), False)


@given(st.lists(st.text(max_size=5), max_size=9), st.integers(0, 9), st.sampled_from(WISHES))
def test_at_any_moment_it_knows_what_was_passed_on(words: list[str], seen: int, wish: Wish) -> None:
    count = Told(wish, sole=True)
    fed(count, stream(words)[: min(seen, len(words)) + 1])
    tokens = min(seen, len(words))
    assert (count.prompt, count.completion) == (7, tokens)
    assert count.usage(complete=False) == (Usage(7, tokens), True)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), max_size=30), st.integers(1, 4), st.booleans())
def test_choices_of_one_prompt_or_several_are_added_up(
    steps: list[tuple[int, int]], choices: int, together: bool
) -> None:
    """Each event tells the tokens of its own choice; prompts differ in length."""
    tokens: dict[int, int] = {}
    data = []
    for choice, more in steps:
        tokens[choice] = tokens.get(choice, 0) + more
        data.append(event("x", 10 + choice // choices, tokens[choice], choice))
    count = Told(NOTHING, choices)
    out = fed(count, [b"".join(data)] if together else data)
    assert b'"usage"' not in out
    assert out.count(b"data: ") == len(data)
    prompts = {choice // choices: 10 + choice // choices for choice in tokens}
    assert (count.prompt, count.completion) == (sum(prompts.values()), sum(tokens.values()))


def test_more_than_plain_numbers_is_taken_out_whole() -> None:
    usage = {"prompt_tokens": 7, "total_tokens": 9, "completion_tokens": 2}
    detailed = usage | {"completion_tokens_details": {"reasoning_tokens": 1}}
    events = [event("a", 7, 1), event("b", 7, None, usage=detailed), event("c", 7, 3), event("d", 8, 4)]
    events += [event("e", 8, None, usage=usage, then={"more": 1})]
    count = Told(NOTHING, sole=True)
    out = fed(count, events)
    assert out == b"".join((*(event(word, 7, None) for word in "abcd"), event("e", 7, None, then={"more": 1})))
    assert count.completion == 2
    again = Told(NOTHING, sole=True)
    assert again.feed(b"".join(events)) == out


def test_cached_tokens_are_told_at_the_end() -> None:
    last = {
        "prompt_tokens": 7,
        "total_tokens": 8,
        "completion_tokens": 1,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    count = Told(NOTHING, sole=True)
    assert fed(count, [event("a", 7, 1), event(None, 7, None, usage=last), DONE]) == event("a", 7, None) + DONE
    assert count.usage(complete=True) == (Usage(7, 1, 4), False)


@pytest.mark.parametrize(
    "odd",
    [
        b": a comment\n\n",
        b'data: {"error":{"message":"no"}}\n\n',
        b"data: not json\n\n",
        b'data: {"usage": 5}\n\n',
        b'data: {"choices":[{"index":0}],"usage":{"prompt_tokens":"many"}}\n\n',
        b'data: {"choices":[{"index":0}],"usage":{"prompt_tokens":7,"total_tokens":x\n\n',
        b"data: [DONE]",
        b"\xff\xfe\n\n",
    ],
)
def test_what_no_engine_should_say_is_passed_on(odd: bytes) -> None:
    count = Told(NOTHING, sole=True)
    assert fed(count, [event("a", 7, 1), odd]) == event("a", 7, None) + odd
    assert count.completion == 1
    assert Told(NOTHING).feed(odd) == odd


def test_of_an_engine_that_tells_nothing_after_all_events_count() -> None:
    count = Told(NOTHING, prompt=30)
    said = event("a", 7, None) + event("b", 7, None) + DONE
    assert count.feed(said) == said
    assert count.completion == 2
    assert count.usage(complete=True) == (Usage(30, 2), True)
    assert Told(NOTHING, prompt=30).usage(complete=True) == (None, False)


# -- engines that tell only at the end -------------------------------------------------------------------------------

RESPONSES = [
    b'event: response.created\ndata: {"response":{"usage":null}}\n\n',
    b'event: response.output_text.delta\ndata: {"delta":"a"}\n\n',
    b'event: response.output_text.delta\ndata: {"delta":"b"}\n\n',
    b'event: response.completed\ndata: {"response":{"usage":{"input_tokens":9,"output_tokens":2}}}\n\n',
]
MESSAGES = [
    b'event: message_start\ndata: {"message":{"usage":{"input_tokens":9,"output_tokens":0}}}\n\n',
    b'event: content_block_delta\ndata: {"delta":{"text":"a"}}\n\n',
    b'event: content_block_delta\ndata: {"delta":{"text":"b"}}\n\n',
    b'event: message_delta\ndata: {"usage":{"output_tokens":2}}\n\n',
]
PLAIN = [
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"b"}}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}\n\n',
]


@pytest.mark.parametrize(
    ("path", "events", "prompt"),
    [("/v1/responses", RESPONSES, 30), ("/v1/messages", MESSAGES, 9), ("/v1/chat/completions", PLAIN, 30)],
)
def test_pieces_count_until_the_engine_says(path: str, events: list[bytes], prompt: int) -> None:
    """``prompt``: as known before the end; 30 is what was estimated."""
    for seen in range(len(events)):
        count = Pieces(PATHS[path], 30)
        assert fed(count, events[:seen]) == b"".join(events[:seen])
        usage, estimated = count.usage(complete=False)
        assert (usage.completion if usage else 0) == max(0, seen - 1)
        if seen > 1:
            assert usage == Usage(prompt, seen - 1)
            assert estimated
    count = Pieces(PATHS[path], 30)
    fed(count, events)
    assert count.usage(complete=True) == (Usage(9, 2), False)


def test_a_stream_that_never_says_is_estimated() -> None:
    count = Pieces(CHAT, 30)
    fed(count, PLAIN[:3])
    assert count.usage(complete=True) == (Usage(30, 2), True)


def test_long_answers_say_it_at_their_end() -> None:
    body = json.dumps({"data": ["x" * 100_000], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}).encode()
    for size in (1000, 70_000, len(body)):
        count = End(30)
        for at in range(0, len(body), size):
            assert count.feed(body[at : at + size]) == body[at : at + size]
        assert count.usage(complete=True) == (Usage(9, 2), False)
    cut = End(30)
    assert cut.usage(complete=False) == (None, True)
    cut.feed(body[:5000])
    assert cut.usage(complete=False) == (Usage(30, 0), True)


def test_which_count_is_for_which_stream() -> None:
    peek = Peek("m", True, tokens=40, answer_tokens=10)
    told = count_for(CHAT, peek, NOTHING)
    assert isinstance(told, Told)
    pieces = count_for(CHAT, peek, None)
    assert isinstance(pieces, Pieces)
    assert pieces.prompt == 30
