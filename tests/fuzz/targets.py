"""What is fuzzed: each target takes any bytes and raises when a promise about them is broken.

``python -m tests.fuzz`` lets atheris look for such bytes; ``test_targets`` gives them hypothesis's, and whatever was
found before and lies in ``corpus``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from gateway.endpoints import ENDPOINTS
from gateway.errors import GatewayError
from gateway.exchange import Usage
from gateway.forms import read_form
from gateway.greed import Caps, is_deeper
from gateway.gunzip import gunzip
from gateway.headers import from_engine, lines, to_engine
from gateway.image_urls import may_have_urls, urls_in
from gateway.peek import peek, peek_beside
from gateway.plane.chunks import BadChunk, Dechunker, whole_events
from gateway.plane.heads import BadHead, Memory, RequestHead, parse_answer, parse_request
from gateway.sse import WholeEvents
from gateway.usage import UsageScanner, usage_of
from tests.fuzz.reference import dechunked, depth

Target = Callable[[bytes], None]
TARGETS: dict[str, Target] = {}

CAPS = Caps()
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


def target(function: Target) -> Target:
    TARGETS[function.__name__] = function
    return function


def pieces(data: bytes) -> list[bytes]:
    """The first bytes say how the others are cut."""
    count = data[0] % 8 if data else 0
    cuts, rest = data[1 : 1 + count], data[1 + count :]
    found, at = [], 0
    for cut in cuts:
        found.append(rest[at : at + cut])
        at += cut
    return [*found, rest[at:]]


def _check_refusal(refused: BadHead | GatewayError) -> None:
    """In words, and the caller's fault."""
    assert 400 <= refused.status < 500, refused.status
    assert refused.message.isprintable(), refused.message


def _check_headers(headers: list[tuple[bytes, bytes]]) -> None:
    for name, value in headers:
        assert _NAME.fullmatch(name), name
        assert name == name.lower()
        assert _VALUE.fullmatch(value), value
    written = lines(headers)
    assert written.count(b"\r") == written.count(b"\n") == len(headers)


def _head(data: bytes) -> bytes:
    """A head is what ends with the first blank line."""
    head, _, _ = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n"


@target
def request_head(data: bytes) -> None:
    """Refused with words and a 4xx, or understood in one way only."""
    try:
        head = parse_request(_head(data))
    except BadHead as refused:
        _check_refusal(refused)
        return
    _check_headers(head.headers)
    names = [name for name, _ in head.headers]
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1, names
    assert head.chunked == (b"transfer-encoding" in names)
    assert (head.length is not None) == (b"content-length" in names)
    assert not (head.http_1_0 and head.chunked)
    assert head.path.startswith("/") or head.target == b"*"
    going_on = to_engine(head.headers)
    _check_headers(going_on)
    secret = {
        b"authorization",
        b"x-api-key",
        b"cookie",
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
    }
    assert not secret & {name for name, _ in going_on}


@target
def remembered_head(data: bytes) -> None:
    """A head that is recognised means what the parser would have said of it."""
    first, _, second = data.partition(b"\xfe\xfe")
    raw, again = _head(first), _head(second)
    try:
        head = parse_request(raw)
    except BadHead:
        return
    memory: Memory[RequestHead] = Memory()
    memory.keep(raw, head)
    assert memory.recall(raw) in (None, -1 if head.length is None else head.length)
    length = memory.recall(again)
    if length is None:
        return
    fresh = parse_request(again)
    assert fresh.length == (None if length < 0 else length), (again, length)
    unframed = [header for header in fresh.headers if header[0] != b"content-length"]
    assert unframed == [header for header in head.headers if header[0] != b"content-length"]
    same = ("method", "target", "path", "query", "chunked", "keep_alive", "http_1_0", "expects_continue", "request_id")
    assert [getattr(fresh, name) for name in same] == [getattr(head, name) for name in same]


@target
def answer_head(data: bytes) -> None:
    try:
        head = parse_answer(_head(data))
    except BadHead as refused:
        _check_refusal(refused)
        return
    assert 100 <= head.status <= 999
    assert head.length is None or head.length >= 0
    assert not (head.chunked and head.length), "two framings"
    _check_headers(from_engine(head.headers, events=data[:1] == b"e"))


@target
def chunks(data: bytes) -> None:
    """However it is cut, the same bytes come out as of a decoder that sees all at once; or both refuse."""
    parts = pieces(data)
    whole = b"".join(parts)
    dechunker, out, rest = Dechunker(), b"", b""
    try:
        for part in parts:
            if dechunker.ended:
                rest += part
                continue
            rest = dechunker.feed(part)
            out += dechunker.take()
        got: tuple[bytes, bytes, bool] | None = (out, rest, dechunker.ended)
    except BadChunk:
        got = None
    wanted = dechunked(whole)
    if wanted is None:
        # In pieces it may not have come to the bad byte: then it must not have come to an end either.
        assert got is None or not got[2], (whole, got)
    elif got is None:
        raise AssertionError(f"refused: {whole!r}")
    else:
        assert got == wanted, (whole, got, wanted)


@target
def events_in_chunks(data: bytes) -> None:
    """What is passed on unopened is nothing but whole chunks with whole events."""
    size = whole_events(data)
    if not size:
        return
    dechunker = Dechunker()
    assert dechunker.feed(data) == b""
    payload = dechunker.take()
    assert len(payload) == size
    assert payload.endswith(b"\n\n")
    assert dechunker.between_chunks
    assert not dechunker.ended


@target
def events(data: bytes) -> None:
    """Nothing is lost, and what goes out ends where an event does."""
    parts = pieces(data)
    whole = WholeEvents()
    out = [whole.feed(part) for part in parts]
    for one in out:
        assert not one or one.endswith((b"\n\n", b"\r\n\r\n"))
    rest = whole.rest()
    assert b"".join(out) + rest == b"".join(parts)
    assert b"\n\n" not in rest
    assert whole.empty


@target
def usage(data: bytes) -> None:
    """The same however it is cut; numbers or nothing."""
    parts = pieces(data)
    in_parts, at_once = UsageScanner(), UsageScanner()
    for part in parts:
        in_parts.feed(part)
    at_once.feed(b"".join(parts))
    found = in_parts.usage
    assert found == at_once.usage, (parts, found)
    for one in (found, usage_of(b"".join(parts))):
        assert one is None or isinstance(one, Usage)


@target
def packed(data: bytes) -> None:
    encoding = ("gzip", "deflate", "x-gzip", "identity", "br")[data[0] % 5] if data else "gzip"
    limit = data[1] * 16 if len(data) > 1 else 100
    try:
        out = gunzip(data[2:], encoding, limit)
    except GatewayError as refused:
        _check_refusal(refused)
        return
    assert encoding == "identity" or len(out) <= limit


@target
def body(data: bytes) -> None:
    """Whatever a body is, it is understood or refused with a 4xx; and understood as any JSON parser does."""
    endpoint = ENDPOINTS[data[0] % len(ENDPOINTS)] if data else ENDPOINTS[0]
    raw = data[1:]
    try:
        found = peek_beside(raw, "m", CAPS) if endpoint.model_in_path else peek(raw, endpoint, CAPS, frozenset())
    except GatewayError as refused:
        _check_refusal(refused)
        return
    assert found.tokens >= 1
    document = _loaded(raw)
    if isinstance(document, dict) and not endpoint.model_in_path:
        assert found.model == document[endpoint.model_field]
        assert found.stream is (document.get("stream") is True)


@target
def form(data: bytes) -> None:
    try:
        found = read_form(data, 'multipart/form-data; boundary="xyz"', ("model", "stream"))
    except GatewayError as refused:
        _check_refusal(refused)
        return
    for name, (start, end) in found.spans.items():
        assert data[start:end].decode(errors="replace") == found.fields[name]


@target
def nesting(data: bytes) -> None:
    """Counted without parsing, and counted right."""
    document = _loaded(data)
    if document is None:
        return
    levels = depth(document)
    for most in (1, levels - 1, levels, levels + 1, 100):
        if most > 0:
            assert is_deeper(data, most) == (levels > most), (data, most, levels)


@target
def urls(data: bytes) -> None:
    """The quick look never overlooks what the slow one would find."""
    document = _loaded(data)
    if document is not None and any(True for _ in urls_in(document, "x")):
        assert may_have_urls(data), data


def _loaded(data: bytes) -> Any:
    try:
        return json.loads(data.decode())
    except (ValueError, RecursionError):
        return None
