"""What a caller sees of an answer, on a clock that the test moves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from loadtests.chat import ChatRequest, Progress, StreamBroken, error_text, follow, stream_chat, whole_chat
from loadtests.wire import CallFailed, Refused
from tests.loadtests.fake_service import FakeModel, FakeService


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def event(delta: dict[str, Any] | None = None, finish_reason: str | None = None) -> bytes:
    return f"data: {json.dumps({'choices': [{'delta': delta or {}, 'finish_reason': finish_reason}]})}\n\n".encode()


def arriving(clock: Clock, *timed: tuple[float, bytes]) -> Iterator[bytes]:
    for at_s, piece in timed:
        clock.now_s = 100.0 + at_s
        yield piece


HELLO, END, DONE = event({"content": "Hello"}), event(finish_reason="stop"), b"data: [DONE]\n\n"


def seen(*timed: tuple[float, bytes]) -> Progress:
    clock = Clock()
    progress = Progress(started_s=clock())
    follow(arriving(clock, *timed), progress, clock)
    return progress


def test_the_first_token_is_the_first_event_with_text() -> None:
    role = event({"role": "assistant", "content": ""})
    progress = seen((1, role), (3, HELLO), (4, HELLO), (6.5, HELLO), (7, END), (8, DONE))
    assert progress.ttft_s == 3
    assert progress.gaps_s == [1, 2.5]
    assert progress.e2e_s == 8
    assert progress.finish_reason == "stop"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "tool_calls"])
def test_thoughts_and_tool_calls_are_tokens_too(name: str) -> None:
    assert seen((2, event({name: "x"})), (3, END + DONE)).ttft_s == 2


def test_tokens_that_arrive_together_have_no_gap() -> None:
    assert seen((1, HELLO + HELLO), (2, END + DONE)).gaps_s == [0]


def test_an_answer_without_a_token_has_no_first_one() -> None:
    progress = seen((1, END), (2, DONE))
    assert (progress.ttft_s, progress.gaps_s, progress.e2e_s) == (None, [], 2)


def test_usage_without_choices_is_no_token() -> None:
    assert (
        seen((1, HELLO), (2, END), (3, b'data: {"choices": [], "usage": {"total_tokens": 3}}\n\n'), (4, DONE)).gaps_s
        == []
    )


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ([HELLO, DONE], "without a finish_reason"),
        ([HELLO, END], r"without \[DONE\]"),
        ([HELLO, b"data: nonsense\n\n"], "not JSON: nonsense"),
        ([HELLO, b'event: error\ndata: {"error": {"message": "engine died"}}\n\n'], "error event: engine died"),
        ([HELLO, b'data: {"error": {"message": "out of memory"}}\n\n'], "error event: out of memory"),
        ([b"data: [1, 2]\n\n"], r"error event: \[1, 2\]"),
        ([b"data: \xff\n\n"], "not UTF-8"),
    ],
)
def test_a_stream_that_breaks_says_how(pieces: list[bytes], why: str) -> None:
    with pytest.raises(StreamBroken, match=why):
        seen(*enumerate(pieces))


def test_what_arrived_before_the_break_is_kept() -> None:
    clock = Clock()
    progress = Progress(started_s=clock())
    with pytest.raises(StreamBroken):
        follow(arriving(clock, (1, HELLO), (3, HELLO)), progress, clock)
    assert (progress.ttft_s, progress.gaps_s) == (1, [2])


@pytest.mark.parametrize(
    ("chunk", "text"),
    [
        ({"error": {"message": "bad\nluck", "code": 1}}, "bad luck"),
        ({"error": "plain"}, '"plain"'),
        ({"message": "bare"}, "bare"),
        ({"error": {"message": "x" * 1000}}, "x" * 299 + "…"),
    ],
)
def test_error_events_are_told_in_the_servers_words(chunk: Any, text: str) -> None:
    assert error_text(chunk) == text


def send(model: FakeModel, stream: bool = True, timeout_s: float = 10.0, name: str = "m") -> Progress:
    clock = Clock()
    progress = Progress(started_s=clock())
    with FakeService({"m": model}).running() as service:
        call = stream_chat if stream else whole_chat
        call(service.target, ChatRequest(name, "hi", 7), progress, clock, timeout_s)
        assert service.asked[-1]["max_tokens"] == 7
    return progress


def test_over_http_every_word_arrives_as_its_own_event() -> None:
    assert len(send(FakeModel(words=("a", "b", "c"), gap_s=0.01)).token_times_s) == 3


def test_a_whole_answer_has_an_end_and_no_first_token() -> None:
    progress = send(FakeModel(), stream=False)
    assert (progress.ttft_s, progress.e2e_s, progress.finish_reason) == (None, 0, "stop")


@pytest.mark.parametrize("stream", [True, False])
def test_a_refusal_carries_the_servers_words(stream: bool) -> None:
    with pytest.raises(Refused, match="503 model_start_failed: the weights are broken") as caught:
        send(FakeModel(refusal=(503, "the weights are broken")), stream)
    assert (caught.value.status, caught.value.code) == (503, "model_start_failed")


def test_an_unknown_model_is_refused_by_name() -> None:
    with pytest.raises(Refused, match="404 model_not_found: The model 'other' does not exist"):
        send(FakeModel(), name="other")


@pytest.mark.parametrize(
    ("breaks", "why"),
    [("error", "the engine died"), ("done", r"without \[DONE\]"), ("cut", "closed in the middle of the answer")],
)
def test_over_http_a_broken_stream_is_noticed(breaks: str, why: str) -> None:
    with pytest.raises(CallFailed, match=why):
        send(FakeModel(breaks=breaks))


def test_a_stream_that_falls_silent_is_given_up() -> None:
    with pytest.raises(CallFailed, match=r"no answer within 0\.2 s"):
        send(FakeModel(breaks="hang"), timeout_s=0.2)
