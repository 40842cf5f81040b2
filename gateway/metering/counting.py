"""Tokens of a stream of events as they are passed on: at any moment, what the caller has been given.

Fed with whole events, before they go out. Where the engine tells its tokens in every event (``Told``), what the caller
did not ask for is taken out; where it does not, pieces of text are counted until it says at the end (``Pieces``).
"""

from __future__ import annotations

import re
from typing import Protocol

import msgspec

from gateway.dialects import Dialect
from gateway.endpoints import Endpoint
from gateway.exchange import Usage
from gateway.inquiry import Peek
from gateway.metering.wishes import Wish
from gateway.usage import Counts, UsageScanner, UsageTail, tokens_of

END = b"\n\n"
NO_CHOICES = b'"choices":[]'
A_CHOICE = b'"choices"'
A_ROLE = b'"role"'
FIRST_CHOICE = b'"choices":[{"index":0,'
_NAME = b'"usage":'
_TOLD = b',"completion_tokens":'
_OF_A_CHOICE = b"}]"  # what is before the usage, unless there is none
_CLOSED = b"}}\n\n"
MOST_DIGITS = 32  # with the name in between
_MARK = re.compile(rb',"usage":\{"prompt_tokens":\d+,"total_tokens":')


class Count(Protocol):
    """``edits``: what comes out is not always what went in, and framing has to be taken off before and put on after.

    ``prompt``, ``completion``: so far.
    """

    edits: bool
    prompt: int
    completion: int

    def feed(self, data: bytes) -> bytes:
        """What of it goes out."""

    def usage(self, *, complete: bool) -> tuple[Usage | None, bool]:
        """Of the stream, ``complete`` or broken off; and whether it was counted here, as its engine did not say."""


class _Choice(msgspec.Struct):
    index: int = 0


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: Counts | None = None


_EVENT = msgspec.json.Decoder(_Event)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Told:
    """Of vLLM's chat and completions: each event tells the tokens of its choice, one without choices those of all.

    ``choices``: of each prompt (n). ``sole``: the answer has one choice for certain. ``prompt``: as estimated, for an
    engine that tells nothing after all; then its events count.
    """

    __slots__ = ("_choices", "_counts", "_last", "_mark", "_prompts", "_sole", "_wish", "completion", "edits", "prompt")

    def __init__(self, wish: Wish, choices: int = 1, *, sole: bool = False, prompt: int = 0) -> None:
        self.prompt = prompt
        self.completion = 0
        self.edits = not wish.each
        self._wish = wish
        self._choices = choices
        self._sole = sole
        self._mark = b""  # how the usage begins in this stream's events
        self._counts: dict[int, int] = {}  # by choice
        self._prompts: dict[int, int] = {}
        self._last: Usage | None = None

    def feed(self, data: bytes) -> bytes:
        """0.5 us for an event, 0.4 us each where several come together."""
        mark = self._mark
        if not mark:
            return self._closely(data)
        at = data.rfind(mark)
        if self._sole and at > 0 and data.startswith(_OF_A_CHOICE, at - 2):
            told = data.find(_TOLD, at) + len(_TOLD)
            end = data.find(b"}", told)
            tokens = data[told:end]
            plain = len(_TOLD) < told < at + len(mark) + MOST_DIGITS and tokens.isdigit()
            if plain and (self._wish.each or (data.find(mark) == at and data.startswith(_CLOSED, end))):
                self.completion = self._counts[0] = int(tokens)
                return data if self._wish.each else data[:at] + data[end + 1 :]
        return self._together(data, mark)

    def _together(self, data: bytes, mark: bytes) -> bytes:
        """Several events."""
        if NO_CHOICES in data:
            return self._closely(data)
        pieces = data.split(mark)
        last = pieces[-1]
        total, _, _ = last.partition(b",")
        if len(pieces) < 2 or not total.isdigit() or not (self._sole or data.count(FIRST_CHOICE) == len(pieces) - 1):
            return self._closely(data)
        kept = [pieces[0]]
        for piece in pieces[1:]:
            end = piece.find(b"}") + 1
            if piece.find(b"{", 0, end) >= 0:
                return self._closely(data)
            kept.append(piece[end:])
        out = b"".join(kept)
        if _NAME in out:
            return self._closely(data)
        self.completion = self._counts[0] = int(total) - self.prompt
        return data if self._wish.each else out

    def usage(self, *, complete: bool) -> tuple[Usage | None, bool]:
        if self._last is not None:
            return self._last, False
        if not self._counts and not self.completion:
            return None, False
        return Usage(self.prompt, self.completion), True

    def _closely(self, data: bytes) -> bytes:
        events = data.split(END)
        rest = events.pop()  # empty, unless its engine left out the last line's end
        kept = [self._event(event) + END for event in events]
        if self._wish.each:
            return data
        out = b"".join(event for event in kept if event != END)
        return out + (self._event(rest) if rest else b"")

    def _event(self, event: bytes) -> bytes:
        """What of it goes out; empty for nothing."""
        if _NAME not in event:
            if not self._counts and A_CHOICE in event and A_ROLE not in event:
                self.completion += 1
            return event
        begin = event.find(b"{")
        try:
            found, fields = _EVENT.decode(event[begin:]), _FIELDS.decode(event[begin:])
        except (msgspec.DecodeError, RecursionError):
            return event
        if found.usage is None:
            return event
        usage = tokens_of(found.usage)
        if not found.choices:
            self._last = usage
            self.prompt, self.completion = usage.prompt, usage.completion
            return event if self._wish.last else b""
        self._note(found.choices[0].index, usage, event)
        if self._wish.each:
            return event
        del fields["usage"]
        return event[:begin] + msgspec.json.encode(fields)

    def _note(self, choice: int, usage: Usage, event: bytes) -> None:
        self._counts[choice] = usage.completion
        self._prompts[choice // self._choices] = usage.prompt
        self.prompt, self.completion = sum(self._prompts.values()), sum(self._counts.values())
        alone = len(self._counts) == 1 and choice == 0
        mark = _MARK.search(event) if alone else None
        self._mark = b"" if mark is None else mark[0]


class Pieces:
    """Of all others. ``prompt``: as estimated from the request, until its engine says."""

    __slots__ = ("_but", "_mark", "_scanner", "completion", "edits", "prompt")

    def __init__(self, endpoint: Endpoint, prompt: int) -> None:
        self.edits = False
        self.prompt = prompt
        self.completion = 0
        self._mark, self._but = MARKS.get(endpoint.name, MARKS[endpoint.dialect])
        self._scanner = UsageScanner()

    def feed(self, data: bytes) -> bytes:
        """0.4 us for an event. It may be framed in chunks."""
        self._scanner.feed(data)
        self.completion += data.count(self._mark) - data.count(self._but)
        return data

    def usage(self, *, complete: bool) -> tuple[Usage | None, bool]:
        told = self._scanner.usage
        if told is not None and (complete or told.completion >= self.completion):
            return told, not complete
        if told is None and not self.completion:
            return None, False
        prompt, cached = (self.prompt, 0) if told is None else (told.prompt, told.cached)
        return Usage(prompt, self.completion, cached), True


class End:
    """Of an answer that is no stream of events and too long to be kept: JSON says its tokens at its end."""

    __slots__ = ("_prompt", "_tail", "completion", "edits", "prompt")

    def __init__(self, prompt: int) -> None:
        self.edits = False
        self.prompt = self.completion = 0
        self._prompt = prompt
        self._tail = UsageTail()

    def feed(self, data: bytes) -> bytes:
        self._tail.feed(data)
        self.prompt = self._prompt  # some of what was made of it is on its way
        return data

    def usage(self, *, complete: bool) -> tuple[Usage | None, bool]:
        told = self._tail.usage
        if complete or told is not None:
            return told, False
        return Usage(self.prompt, 0) if self.prompt else None, True


# One of the first is in each event that has a piece of the answer; the second in those that have none after all.
_NEVER = b"\0"
MARKS: dict[str, tuple[bytes, bytes]] = {
    Dialect.OPENAI: (b'"delta":{"', b'"delta":{"role"'),
    Dialect.RESPONSES: (b".delta\n", _NEVER),
    Dialect.ANTHROPIC: (b"event: content_block_delta", _NEVER),
    "completions": (b'"text":', _NEVER),
}


def count_for(endpoint: Endpoint, peek: Peek, wish: Wish | None) -> Count:
    """Of a stream of events. ``wish``: the engine was asked to tell, and this is what the caller wants of it."""
    if wish is not None:
        return Told(
            wish, peek.choices, sole=peek.choices == 1 and endpoint.name == "chat.completions", prompt=prompt_of(peek)
        )
    return Pieces(endpoint, prompt_of(peek))


def prompt_of(peek: Peek) -> int:
    """Tokens, as estimated."""
    return max(0, peek.tokens - peek.answer_tokens)
