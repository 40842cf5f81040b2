"""Chat, completions, embeddings and Anthropic's messages: how a request is written, and what an answer says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from loadtests.client.call import STREAM_BROKEN, Call
from loadtests.wire import refusal, shorten

CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES = "chat", "completions", "embeddings", "messages"
CUT = "the stream ended without its end"


@dataclass(frozen=True, slots=True)
class Wanted:
    """``said``: (role, text), oldest first; the last is the caller's. ``whole_length``: go on to ``max_tokens`` even if
    the model would end sooner (vLLM's ``ignore_eos``). ``usage``: ask streams for their counts of tokens."""

    model: str
    said: Sequence[tuple[str, str]] = field(repr=False)
    max_tokens: int = 32
    stream: bool = True
    whole_length: bool = False
    usage: bool = True


class Dialect(Protocol):
    path: str
    streams: bool

    def body(self, wanted: Wanted) -> bytes: ...

    def event(self, call: Call, name: bytes, data: bytes, now_s: float) -> None:
        """One event of a stream that arrived at ``now_s``."""

    def whole(self, call: Call, body: bytes) -> None:
        """A complete answer that was not streamed."""


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Delta(msgspec.Struct):
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


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Message(msgspec.Struct):
    usage: _Usage | None = None


class _Chunk(msgspec.Struct):
    """What all dialects' events and answers have that matters here."""

    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None
    type: str | None = None
    delta: _Delta | None = None
    message: _Message | str | None = None
    content: list[_Delta] | None = None
    stop_reason: str | None = None
    data: list[msgspec.Raw] | None = None


_decode = msgspec.json.Decoder(_Chunk).decode
_encode = msgspec.json.encode


def read_chunk(call: Call, data: bytes) -> _Chunk | None:
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


def _counted(call: Call, usage: _Usage | None) -> None:
    if usage is None:
        return
    read = usage.prompt_tokens if usage.prompt_tokens is not None else usage.input_tokens
    written = usage.completion_tokens if usage.completion_tokens is not None else usage.output_tokens
    call.input_tokens = call.input_tokens if read is None else read
    call.output_tokens = call.output_tokens if written is None else written


def _spoken(delta: _Delta) -> bool:
    return bool(
        delta.content or delta.text or delta.reasoning_content or delta.reasoning or delta.tool_calls or delta.refusal
        or delta.thinking or delta.partial_json
    )  # fmt: skip


class _OpenAi:
    """What chat and completions have in common."""

    streams = True
    path = ""

    def event(self, call: Call, name: bytes, data: bytes, now_s: float) -> None:
        if data == b"[DONE]":
            call.closed = True
            if call.finish_reason is None:
                call.fail(STREAM_BROKEN, "the stream ended without a finish_reason")
            return
        if name == b"error":
            told_error(call, data)
            return
        chunk = read_chunk(call, data)
        if chunk is None:
            return
        for choice in chunk.choices or ():
            if choice.text or (choice.delta is not None and _spoken(choice.delta)):
                call.token_times_s.append(now_s)
                if call.ask.keep_text:
                    call.words.append(choice.text or str((choice.delta and choice.delta.content) or ""))
            if choice.finish_reason:
                call.finish_reason = choice.finish_reason
        if chunk.usage is not None:
            _counted(call, chunk.usage)

    def whole(self, call: Call, body: bytes) -> None:
        chunk = read_chunk(call, body)
        if chunk is None:
            return
        if not chunk.choices:
            call.fail(STREAM_BROKEN, f"the answer has no choices: {shorten(body[:200].decode('utf-8', 'replace'))}")
            return
        call.finish_reason, call.closed = chunk.choices[0].finish_reason, True
        said = chunk.choices[0].text or (chunk.choices[0].message and chunk.choices[0].message.content) or ""
        if call.ask.keep_text:
            call.words.append(str(said))
        _counted(call, chunk.usage)


class Chat(_OpenAi):
    path = "/v1/chat/completions"

    def body(self, wanted: Wanted) -> bytes:
        messages = [{"role": role, "content": text} for role, text in wanted.said]
        return _encode({"model": wanted.model, "messages": messages, **_length(wanted), **_streamed(wanted)})


class Completions(_OpenAi):
    path = "/v1/completions"

    def body(self, wanted: Wanted) -> bytes:
        prompt = "\n".join(text for _, text in wanted.said)
        return _encode({"model": wanted.model, "prompt": prompt, **_length(wanted), **_streamed(wanted)})


class Embeddings:
    path = "/v1/embeddings"
    streams = False

    def body(self, wanted: Wanted) -> bytes:
        return _encode({"model": wanted.model, "input": wanted.said[-1][1]})

    def event(self, call: Call, name: bytes, data: bytes, now_s: float) -> None:
        call.fail(STREAM_BROKEN, "embeddings came as a stream")

    def whole(self, call: Call, body: bytes) -> None:
        chunk = read_chunk(call, body)
        if chunk is None:
            return
        if not chunk.data:
            call.fail(STREAM_BROKEN, f"the answer has no data: {shorten(body[:200].decode('utf-8', 'replace'))}")
            return
        call.closed, call.finish_reason = True, "stop"
        _counted(call, chunk.usage)
        call.output_tokens = 0


class Messages:
    """https://docs.anthropic.com/en/api/messages"""

    path = "/v1/messages"
    streams = True

    def body(self, wanted: Wanted) -> bytes:
        messages = [{"role": role, "content": text} for role, text in wanted.said if role != "system"]
        fields: dict[str, Any] = {"model": wanted.model, "messages": messages, "max_tokens": wanted.max_tokens}
        for role, text in wanted.said:
            if role == "system":
                fields["system"] = text
        return _encode({**fields, "stream": wanted.stream, **_ignore_eos(wanted)})

    def event(self, call: Call, name: bytes, data: bytes, now_s: float) -> None:
        if name == b"error":
            told_error(call, data)
            return
        chunk = read_chunk(call, data)
        if chunk is None:
            return
        if chunk.type == "content_block_delta" and chunk.delta is not None and _spoken(chunk.delta):
            call.token_times_s.append(now_s)
            if call.ask.keep_text:
                call.words.append(str(chunk.delta.text or ""))
        elif chunk.type == "message_start" and isinstance(chunk.message, _Message):
            _counted(call, chunk.message.usage)
        elif chunk.type == "message_delta":
            if chunk.delta is not None:
                call.finish_reason = chunk.delta.stop_reason or call.finish_reason
            _counted(call, chunk.usage)
        elif chunk.type == "message_stop":
            call.closed = True

    def whole(self, call: Call, body: bytes) -> None:
        chunk = read_chunk(call, body)
        if chunk is None:
            return
        if chunk.content is None:
            call.fail(STREAM_BROKEN, f"the answer has no content: {shorten(body[:200].decode('utf-8', 'replace'))}")
            return
        call.finish_reason, call.closed = chunk.stop_reason, True
        if call.ask.keep_text:
            call.words.extend(str(block.text or "") for block in chunk.content)
        _counted(call, chunk.usage)


def _length(wanted: Wanted) -> dict[str, Any]:
    return {"max_tokens": wanted.max_tokens, **_ignore_eos(wanted)}


def _ignore_eos(wanted: Wanted) -> dict[str, Any]:
    return {"ignore_eos": True} if wanted.whole_length else {}


def _streamed(wanted: Wanted) -> dict[str, Any]:
    if not wanted.stream:
        return {"stream": False}
    return {"stream": True, **({"stream_options": {"include_usage": True}} if wanted.usage else {})}


DIALECTS: Mapping[str, Dialect] = {
    CHAT: Chat(),
    COMPLETIONS: Completions(),
    EMBEDDINGS: Embeddings(),
    MESSAGES: Messages(),
}
