"""Which headers pass through the gateway, in both directions. Names are lower-case bytes."""

from __future__ import annotations

from collections.abc import Iterable

from models.runtimes.protocol import KEY_HEADER

Headers = list[tuple[bytes, bytes]]

# RFC 9110 section 7.6.1, with the older names that proxies still meet.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# Secrets of the caller, framing that is made anew, what is sent in our own words, and what is not a caller's to say.
_NOT_FOR_ENGINES = HOP_BY_HOP | {
    b"accept-encoding",
    b"api-key",
    b"authorization",
    b"content-encoding",
    b"content-length",
    b"cookie",
    b"expect",
    b"forwarded",
    b"host",
    b"traceparent",
    b"x-api-key",
    KEY_HEADER.encode(),
    b"x-request-id",
    b"x-request-priority",
    b"x-request-timeout",
    b"x-session-id",
}
_NOT_FOR_ENGINES_PREFIXES = (b"x-forwarded-", b"x-data-parallel-", b"proxy-", b"sec-")
_USUAL = frozenset({b"close", b"keep-alive"})
MOST_REMEMBERED = 4096
_passing: dict[bytes, bool] = {}  # names seen before, and whether they pass
# Engines are not trusted: only what describes the body comes through.
_FROM_ENGINES = frozenset({b"content-type", b"cache-control", b"content-language"})
_STREAM_HEADERS: Headers = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


def to_engine(headers: Headers) -> Headers:
    kept = [header for header in headers if _passes(header[0])]
    named = {
        token.strip().lower() for name, value in headers if name == b"connection" for token in value.split(b",")
    }  # headers that the caller declared hop-by-hop
    return kept if named <= _USUAL else [header for header in kept if header[0] not in named]


def _passes(name: bytes) -> bool:
    passes = _passing.get(name)
    if passes is None:
        passes = (
            name not in _NOT_FOR_ENGINES
            and not name.startswith(_NOT_FOR_ENGINES_PREFIXES)
            and b"_" not in name  # some servers read content_length as content-length
        )
        if len(_passing) < MOST_REMEMBERED:
            _passing[name] = passes
    return passes


def from_engine(headers: Iterable[tuple[bytes, bytes]], *, events: bool = False) -> Headers:
    """``events``: the answer is a stream of events, which nobody on the way may keep or hold back."""
    kept = [(name, value) for name, value in headers if name in _FROM_ENGINES]
    if events:
        present = {name for name, _ in kept}
        kept += [(name, value) for name, value in _STREAM_HEADERS if name not in present]
    return kept


def lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """As they go over the wire, each ended by CRLF."""
    return b"".join(b"%b: %b\r\n" % header for header in headers)


def first(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """The first value of a header, None when it is missing."""
    for found, value in headers:
        if found == name:
            return value.decode("latin-1")
    return None
