"""What the dialects' events and answers hold, as far as it matters here: text, ends, errors, counts of tokens."""

from __future__ import annotations

from typing import Any

import msgspec

from loadtests.client.call import STREAM_BROKEN, Call
from loadtests.wire import refusal, shorten


class Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class Delta(msgspec.Struct):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    tool_calls: Any = None
    refusal: Any = None
    # Anthropic's
    text: Any = None
    thinking: Any = None
    partial_json: Any = None
    stop_reason: str | None = None


class Choice(msgspec.Struct):
    delta: Delta | None = None
    message: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class Message(msgspec.Struct):
    usage: Usage | None = None


class Chunk(msgspec.Struct):
    """What all dialects' events and answers have that matters here."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: Any = None
    type: str | None = None
    delta: Delta | None = None
    message: Message | str | None = None
    content: list[Delta] | None = None
    stop_reason: str | None = None
    data: list[msgspec.Raw] | None = None


_decode = msgspec.json.Decoder(Chunk).decode


def read_chunk(call: Call, data: bytes) -> Chunk | None:
    """None, with the call failed, for an error or for what is none of the dialects' documents."""
    try:
        chunk = _decode(data)
    except msgspec.MsgspecError:
        _odd(call, data)
        return None
    if chunk.error is not None or chunk.type == "error":
        told_error(call, data)
        return None
    return chunk


def _odd(call: Call, data: bytes) -> None:
    try:
        document = msgspec.json.decode(data)
    except msgspec.MsgspecError:
        call.fail(STREAM_BROKEN, f"an event is not JSON: {shorten(data[:200].decode('utf-8', 'replace'))}")
        return
    if isinstance(document, dict) and document.get("error"):
        told_error(call, data)
    else:
        call.fail(STREAM_BROKEN, f"not what was expected: {shorten(data[:200].decode('utf-8', 'replace'))}")


def told_error(call: Call, data: bytes) -> None:
    """The server's own code (else its ``type``, else the status) and words."""
    told = refusal(call.status, data)
    kind = told.code
    if not kind:
        try:
            kind = msgspec.json.decode(data)["error"]["type"]
        except (msgspec.MsgspecError, KeyError, TypeError):
            kind = None
    call.fail(str(kind) if kind else f"http_{call.status}", told.message)


def counted(call: Call, usage: Usage | None) -> None:
    if usage is None:
        return
    read = usage.prompt_tokens if usage.prompt_tokens is not None else usage.input_tokens
    written = usage.completion_tokens if usage.completion_tokens is not None else usage.output_tokens
    call.input_tokens = call.input_tokens if read is None else read
    call.output_tokens = call.output_tokens if written is None else written


def spoken(delta: Delta) -> bool:
    return bool(
        delta.content or delta.text or delta.reasoning_content or delta.reasoning or delta.tool_calls or delta.refusal
        or delta.thinking or delta.partial_json
    )  # fmt: skip
