"""Tokens as engines count them, found in an answer without parsing its events.

Chat and completions say ``usage`` at the top, in a stream in its last event before ``[DONE]``; Responses inside
``response``; Anthropic first inside ``message`` (the prompt) and once more at the end (the answer).
"""

from __future__ import annotations

import msgspec

from gateway.exchange import Usage

_NAME = b'"usage":'
_NULLS = (b"null", b" null")
LONGEST_LINE_BYTES = 1 << 20  # of what is longer, only the end is kept: that is where the usage is
END_BYTES = 16 << 10
MOST_TOKENS = (1 << 32) - 1
LONG_BYTES = 2 << 10


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class Counts(msgspec.Struct):
    """All three dialects' names; None where this one has no such name."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Inner(msgspec.Struct):
    usage: Counts | None = None


class _Document(msgspec.Struct):
    usage: Counts | None = None
    response: _Inner | None = None
    message: _Inner | None = None


_DOCUMENT = msgspec.json.Decoder(_Document)


def usage_of(body: bytes) -> Usage | None:
    """Of a whole JSON answer; None where it has none or is no such answer. About 1 us."""
    counts = _counts(body)
    return None if counts is None else tokens_of(counts)


class UsageTail:
    """Fed with a JSON answer too long to be kept, in pieces of any size. Keeps its end, where the usage is."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> None:
        self._tail = data[-END_BYTES:] if len(data) >= END_BYTES else (self._tail + data)[-END_BYTES:]

    @property
    def usage(self) -> Usage | None:
        return usage_of(self._tail)


class UsageScanner:
    """Fed with a streamed answer as it comes, in pieces of any size. Keeps the first and the last line with a usage."""

    __slots__ = ("_first", "_last", "_rest", "_rest_bytes")

    def __init__(self) -> None:
        self._first = self._last = b""
        self._rest: list[bytes] = []  # of a line that is not finished yet
        self._rest_bytes = 0

    def feed(self, data: bytes) -> None:
        """About 0.2 us for an event without a usage."""
        if self._rest or not data.endswith(b"\n"):
            data = self._whole_lines(data)
        at = data.rfind(_NAME)
        while at >= 0:
            if not data.startswith(_NULLS, at + len(_NAME)):  # many say null in all events but one
                self._note(data, at)
                return
            at = data.rfind(_NAME, 0, at)

    @property
    def usage(self) -> Usage | None:
        """Parsed when asked for: ask once, at the end."""
        if self._rest:
            self.feed(b"\n")  # some engines leave out the last line's end
        if not self._last:
            return None
        last = _counts(_payload(self._last))
        first = _counts(_payload(self._first)) if self._first != self._last else None
        if last is None:
            return None if first is None else tokens_of(first)
        return tokens_of(last, first)

    def _whole_lines(self, data: bytes) -> bytes:
        end = data.rfind(b"\n") + 1
        if not end:
            self._rest.append(data)
            self._rest_bytes += len(data)
            if self._rest_bytes > LONGEST_LINE_BYTES:
                self._rest = [b"".join(self._rest)[-END_BYTES:]]
                self._rest_bytes = END_BYTES
            return b""
        lines = b"".join((*self._rest, data[:end])) if self._rest else data[:end]
        self._rest = [data[end:]] if end < len(data) else []
        self._rest_bytes = len(data) - end
        return lines

    def _note(self, data: bytes, at: int) -> None:
        """``at``: of the last usage in it."""
        self._last = _line(data, at)
        if self._first:
            return
        at = data.find(_NAME)
        while data.startswith(_NULLS, at + len(_NAME)):
            at = data.find(_NAME, at + len(_NAME))
        self._first = _line(data, at)


def _line(data: bytes, at: int) -> bytes:
    return data[data.rfind(b"\n", 0, at) + 1 : data.find(b"\n", at)]


def _payload(line: bytes) -> bytes:
    return line.removeprefix(b"data:").strip()


def _counts(document: bytes) -> Counts | None:
    found = (len(document) > LONG_BYTES and _decode(_end_of(document))) or _decode(document)
    if not found:
        # The beginning is not there. In a stream of Responses the usage is one level down.
        end = _end_of(document)
        found = _decode(end) or _decode(end.rstrip().removesuffix(b"}"))
    if not found:
        return None
    for place in (found, found.response, found.message):
        if place is not None and place.usage is not None:
            return place.usage
    return None


def _end_of(document: bytes) -> bytes:
    """From the last usage on. It is JSON only where the rest closes what that one is in, and no more: at the top."""
    at = document.rfind(_NAME)
    return b"" if at < 0 else b"{" + document[at:]


def _decode(document: bytes) -> _Document | None:
    try:
        return _DOCUMENT.decode(document)
    except (msgspec.DecodeError, RecursionError):
        return None


def tokens_of(counts: Counts, earlier: Counts | None = None) -> Usage:
    """``earlier``: Anthropic's first event counts the prompt, its last one need only count the answer. Whatever an
    engine says, nobody is paid for asking."""
    prompt = _prompt(counts)
    if not prompt and earlier is not None:
        prompt = _prompt(earlier)
    completion = counts.completion_tokens or counts.output_tokens or 0
    cached = _cached(counts) or (0 if earlier is None else _cached(earlier))
    if 0 <= cached <= prompt <= MOST_TOKENS and 0 <= completion <= MOST_TOKENS:
        return Usage(prompt, completion, cached)
    prompt = max(0, min(MOST_TOKENS, prompt))
    return Usage(prompt, max(0, min(MOST_TOKENS, completion)), max(0, min(prompt, cached)))


def _prompt(counts: Counts) -> int:
    if counts.prompt_tokens is not None:
        return counts.prompt_tokens
    # Anthropic's input_tokens leaves out what was read from its cache or written to it.
    beside = (counts.cache_read_input_tokens or 0) + (counts.cache_creation_input_tokens or 0)
    return (counts.input_tokens or 0) + beside


def _cached(counts: Counts) -> int:
    details = counts.prompt_tokens_details or counts.input_tokens_details
    return (details.cached_tokens if details else counts.cache_read_input_tokens) or 0
