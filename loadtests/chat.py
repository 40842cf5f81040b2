"""One chat completion as its caller sees it: when each token came, how it ended. The clock is passed in."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from loadtests.sse import SseError, SseEvent, SseParser
from loadtests.target import Target
from loadtests.wire import CallFailed, post_json, post_stream, shorten

CHAT_PATH = "/v1/chat/completions"
Clock = Callable[[], float]

# Where the words of an answer are, under the names that engines use; any of them counts as a token.
_SPOKEN = ("content", "reasoning_content", "reasoning", "tool_calls", "refusal")


class StreamBroken(CallFailed):
    """The answer began and did not end as it should."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """``whole_length``: go on to ``max_tokens`` even if the model would end its answer sooner."""

    model: str
    prompt: str
    max_tokens: int
    whole_length: bool = False

    def body(self, stream: bool) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": self.prompt}],
            "max_tokens": self.max_tokens,
            "stream": stream,
            **({"ignore_eos": True} if self.whole_length else {}),
        }


@dataclass(slots=True)
class Progress:
    """What has been seen of one answer. Times are seconds of the caller's clock."""

    started_s: float
    token_times_s: list[float] = field(default_factory=list)
    ended_s: float | None = None
    finish_reason: str | None = None
    done: bool = False

    @property
    def ttft_s(self) -> float | None:
        """From sending the request to the first event that carries text; None when none did."""
        return self.token_times_s[0] - self.started_s if self.token_times_s else None

    @property
    def gaps_s(self) -> list[float]:
        """Between neighbouring events that carry text. An engine that puts two tokens into one event has one gap."""
        return [later - earlier for earlier, later in pairwise(self.token_times_s)]

    @property
    def e2e_s(self) -> float | None:
        """From sending the request to the end of the answer."""
        return None if self.ended_s is None else self.ended_s - self.started_s

    def take(self, event: SseEvent, now_s: float) -> None:
        """Raises StreamBroken for an error event, in the server's words, and for what is no chat completion."""
        if event.data == "[DONE]":
            self.done = True
            return
        try:
            chunk = json.loads(event.data)
        except ValueError:
            raise StreamBroken(f"an event is not JSON: {shorten(event.data[:200])}") from None
        if event.name == "error" or not isinstance(chunk, dict) or chunk.get("error"):
            raise StreamBroken(f"error event: {error_text(chunk)}")
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            if any(delta.get(name) for name in _SPOKEN):
                self.token_times_s.append(now_s)
            self.finish_reason = choice.get("finish_reason") or self.finish_reason

    def end(self, now_s: float) -> None:
        """Raises StreamBroken when the answer stopped short of its end."""
        self.ended_s = now_s
        if self.finish_reason is None:
            raise StreamBroken("the stream ended without a finish_reason")
        if not self.done:
            raise StreamBroken("the stream ended without [DONE]")


def error_text(chunk: Any) -> str:
    """OpenAI's ``{"error": {"message"}}`` in the server's words; anything else as it came."""
    inner = chunk.get("error", chunk) if isinstance(chunk, dict) else chunk
    message = inner.get("message") if isinstance(inner, dict) else None
    return shorten(message if isinstance(message, str) else json.dumps(inner))


def follow(pieces: Iterable[bytes], progress: Progress, clock: Clock) -> None:
    """Read a streamed answer to its end. Events of one piece of the stream share its time. Raises CallFailed."""
    parser = SseParser()
    for piece in pieces:
        now_s = clock()
        try:
            events = parser.feed(piece)
        except SseError as problem:
            raise StreamBroken(str(problem)) from None
        for event in events:
            progress.take(event, now_s)
    progress.end(clock())


def stream_chat(target: Target, request: ChatRequest, progress: Progress, clock: Clock, timeout_s: float) -> None:
    """Send ``request``, follow its answer; what arrived before a failure stays in ``progress``. Raises CallFailed."""
    with contextlib.closing(post_stream(target, CHAT_PATH, request.body(stream=True), timeout_s=timeout_s)) as pieces:
        follow(pieces, progress, clock)


def whole_chat(target: Target, request: ChatRequest, progress: Progress, clock: Clock, timeout_s: float) -> None:
    """The same without streaming: only its end can be timed. Raises CallFailed."""
    answer = post_json(target, CHAT_PATH, request.body(stream=False), timeout_s=timeout_s)
    progress.ended_s = clock()
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not choices:
        raise StreamBroken(f"the answer has no choices: {shorten(json.dumps(answer)[:200])}")
    progress.finish_reason = choices[0].get("finish_reason")
    progress.done = True
