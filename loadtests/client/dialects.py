"""Chat, completions, embeddings and Anthropic's messages: how a request is written, and what an answer says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from loadtests.client.call import STREAM_BROKEN, Call
from loadtests.client.chunks import Message, counted, read_chunk, spoken, told_error
from loadtests.wire import shorten

CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES = "chat", "completions", "embeddings", "messages"
CUT = "the stream ended without its end"
_encode = msgspec.json.encode


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
            if choice.text or (choice.delta is not None and spoken(choice.delta)):
                call.token_times_s.append(now_s)
                if call.ask.keep_text:
                    call.words.append(choice.text or str((choice.delta and choice.delta.content) or ""))
            if choice.finish_reason:
                call.finish_reason = choice.finish_reason
        if chunk.usage is not None:
            counted(call, chunk.usage)

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
        counted(call, chunk.usage)


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
        counted(call, chunk.usage)
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
        if chunk.type == "content_block_delta" and chunk.delta is not None and spoken(chunk.delta):
            call.token_times_s.append(now_s)
            if call.ask.keep_text:
                call.words.append(str(chunk.delta.text or ""))
        elif chunk.type == "message_start" and isinstance(chunk.message, Message):
            counted(call, chunk.message.usage)
        elif chunk.type == "message_delta":
            if chunk.delta is not None:
                call.finish_reason = chunk.delta.stop_reason or call.finish_reason
            counted(call, chunk.usage)
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
        counted(call, chunk.usage)


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
