"""What each dialect asks, and what it makes of answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from loadtests.client.call import STREAM_BROKEN, Ask, Call
from loadtests.client.dialects import DIALECTS, Wanted

SAID = [("system", "Be brief."), ("user", "Hello")]


def body(name: str, **fields: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(DIALECTS[name].body(Wanted("m", SAID, **fields)))
    return document


def heard(name: str, *events: Any, keep_text: bool = False) -> Call:
    """Events a second apart, from 1 s on."""
    call = Call(Ask("m", name, b"", keep_text=keep_text), status=200)
    for second, event in enumerate(events, 1):
        kind = b"error" if isinstance(event, dict) and "error" in event else b""
        data = event if isinstance(event, bytes) else json.dumps(event).encode()
        DIALECTS[name].event(call, kind, data, float(second))
    return call


def whole(name: str, document: Any) -> Call:
    call = Call(Ask("m", name, b"", stream=False, keep_text=True), status=200)
    DIALECTS[name].whole(call, json.dumps(document).encode())
    return call


def test_chat_asks_with_its_messages_and_for_its_usage() -> None:
    assert body("chat", max_tokens=7) == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        "max_tokens": 7,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert body("chat", stream=False, whole_length=True)["ignore_eos"] is True
    assert body("chat", usage=False).get("stream_options") is None


def test_the_other_dialects_ask_in_their_own_way() -> None:
    assert body("completions")["prompt"] == "Be brief.\nHello"
    assert body("embeddings") == {"model": "m", "input": "Hello"}
    messages = body("messages")
    assert (messages["system"], messages["messages"]) == ("Be brief.", [{"role": "user", "content": "Hello"}])
    assert messages["stream"] is True


def token(text: str = "x", reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": text}, "finish_reason": reason}]}


def test_a_token_is_an_event_with_text() -> None:
    role = {"choices": [{"delta": {"role": "assistant", "content": ""}}]}
    usage = {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}}
    call = heard("chat", role, token("Hi"), token(" you"), token("", "stop"), usage, b"[DONE]", keep_text=True)
    assert call.token_times_s == [2.0, 3.0]
    assert (call.error, call.closed, call.finish_reason) == ("", True, "stop")
    assert (call.input_tokens, call.output_tokens, "".join(call.words)) == (4, 2, "Hi you")


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "tool_calls", "refusal"])
def test_thoughts_tools_and_refusals_are_tokens_too(name: str) -> None:
    assert heard("chat", {"choices": [{"delta": {name: "x"}}]}).token_times_s == [1.0]


def test_completions_say_text() -> None:
    call = heard("completions", {"choices": [{"text": "a", "finish_reason": None}]}, keep_text=True)
    assert (call.token_times_s, call.words) == ([1.0], ["a"])


def test_messages_are_anthropics_events() -> None:
    call = heard(
        "messages",
        {"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 1}}},
        {"type": "ping"},
        {"type": "content_block_start", "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "a"}},
        {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "b"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    )
    assert call.token_times_s == [4.0, 5.0]
    assert (call.input_tokens, call.output_tokens, call.finish_reason, call.closed) == (9, 5, "end_turn", True)


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"error": {"message": "full", "type": "server_error", "code": "overloaded"}}, "overloaded"),
        ({"error": {"message": "full", "type": "server_error", "code": None}}, "server_error"),
        ({"error": {"message": "full"}}, "http_200"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "full"}}, "overloaded_error"),
    ],
)
@pytest.mark.parametrize("name", ["chat", "messages"])
def test_errors_are_told_by_the_servers_code(name: str, document: Any, code: str) -> None:
    call = heard(name, token(), document)
    assert (call.error, call.message) == (code, "full")


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([b"nonsense"], "not JSON"),
        ([b"[1]"], "not what was expected"),
        ([token(), b"[DONE]"], "without a finish_reason"),
    ],
)
def test_what_is_no_answer_is_a_broken_stream(events: list[Any], why: str) -> None:
    call = heard("chat", *events)
    assert call.error == STREAM_BROKEN
    assert why in call.message


def test_answers_that_are_not_streamed() -> None:
    chat = whole("chat", {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}],
                          "usage": {"prompt_tokens": 1, "completion_tokens": 2}})  # fmt: skip
    assert (chat.error, chat.words, chat.output_tokens, chat.closed) == ("", ["Hi"], 2, True)
    assert whole("embeddings", {"data": [{"embedding": [1.0]}], "usage": {"prompt_tokens": 3}}).input_tokens == 3
    said = whole("messages", {"content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn"})
    assert (said.words, said.finish_reason) == (["Hi"], "end_turn")


@pytest.mark.parametrize("name", ["chat", "completions", "embeddings", "messages"])
def test_an_empty_answer_is_none(name: str) -> None:
    assert whole(name, {"object": "nothing"}).error == STREAM_BROKEN
