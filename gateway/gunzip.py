"""Compressed request bodies, unpacked with a cap: a bomb is refused after the cap's worth of bytes, not after all."""

from __future__ import annotations

import zlib

from gateway.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType

ENCODINGS = ("gzip", "x-gzip", "deflate")
MOST_MEMBERS = 16  # each costs a copy of what follows it
_GZIP_BITS, _ZLIB_BITS, _RAW_BITS = 31, 15, -15


def gunzip(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """``encoding``: the Content-Encoding header. Raises BodyTooLarge, InvalidRequest and UnsupportedMediaType."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name in ("gzip", "x-gzip"):
        return _members(body, limit_bytes)
    if name == "deflate":
        # RFC 9110 section 8.4.1.2 means zlib's format; some send the bare stream.
        data, rest = _one(body, _ZLIB_BITS if _is_zlib(body) else _RAW_BITS, limit_bytes)
        if rest:
            raise InvalidRequest("There is more after the compressed body's end.", code="invalid_encoding")
        return data
    raise UnsupportedMediaType(
        f"The content-encoding '{name[:100]}' is not accepted; send gzip, deflate or the plain body."
    )


def _members(body: bytes, limit_bytes: int) -> bytes:
    """RFC 1952 section 2.2: a gzip file is one or more members, one after the other."""
    parts: list[bytes] = []
    left_bytes, rest = limit_bytes, body
    while rest or not parts:
        if len(parts) == MOST_MEMBERS:
            raise InvalidRequest(f"The body has more than {MOST_MEMBERS} gzip members.", code="invalid_encoding")
        try:
            part, rest = _one(rest, _GZIP_BITS, left_bytes)
        except BodyTooLarge:
            raise BodyTooLarge(limit_bytes) from None
        parts.append(part)
        left_bytes -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _one(body: bytes, bits: int, limit_bytes: int) -> tuple[bytes, bytes]:
    """The unpacked stream and what follows it."""
    stream = zlib.decompressobj(bits)
    try:
        data = stream.decompress(body, limit_bytes + 1)
    except zlib.error as broken:
        raise InvalidRequest("The body is not what its content-encoding says.", code="invalid_encoding") from broken
    if len(data) > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    if not stream.eof:
        raise InvalidRequest("The compressed body ends too early.", code="invalid_encoding")
    return data, stream.unused_data


def _is_zlib(body: bytes) -> bool:
    """RFC 1950 section 2.2: method 8, and the first two bytes are a multiple of 31."""
    return len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
