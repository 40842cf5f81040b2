"""Which headers pass through the gateway, in both directions. Names are lower-case bytes, as ASGI gives them."""

from __future__ import annotations

from collections.abc import Iterable

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
# Secrets of the caller, framing that the transport makes anew, and what a caller must not tell an engine.
_NOT_FOR_ENGINES = HOP_BY_HOP | {
    b"accept-encoding",
    b"api-key",
    b"authorization",
    b"content-length",
    b"cookie",
    b"expect",
    b"forwarded",
    b"host",
    b"x-api-key",
    b"x-request-id",
    b"x-request-timeout",
}
_NOT_FOR_ENGINES_PREFIXES = (b"x-forwarded-", b"x-data-parallel-", b"proxy-", b"sec-")
# Engines are not trusted: only what describes the body comes through.
_FROM_ENGINES = frozenset({b"content-type", b"cache-control", b"content-language"})


def to_engine(headers: Iterable[tuple[bytes, bytes]], request_id: str) -> Headers:
    given = list(headers)
    named = {
        token.strip().lower() for name, value in given if name == b"connection" for token in value.split(b",")
    }  # headers that the caller declared hop-by-hop
    kept = [
        (name, value)
        for name, value in given
        if name not in _NOT_FOR_ENGINES and name not in named and not name.startswith(_NOT_FOR_ENGINES_PREFIXES)
    ]
    kept.append((b"x-request-id", request_id.encode()))
    return kept


def from_engine(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    return [(name, value) for name, value in headers if name in _FROM_ENGINES]


def first(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """The first value of a header, None when it is missing."""
    for found, value in headers:
        if found == name:
            return value.decode("latin-1")
    return None
