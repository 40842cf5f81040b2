"""Slow and simple: what the fast ones are compared with."""

from __future__ import annotations

import re
from typing import Any

from gateway.plane.chunks import LONGEST_SIZE_LINE, MOST_TRAILER_BYTES

_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})(?:[ \t]*;([^\x00-\x08\x0a-\x1f\x7f]*))?")


def dechunked(data: bytes) -> tuple[bytes, bytes, bool] | None:
    """Body, what comes after it, and whether it ended; None where it is no chunked body (RFC 9112 section 7.1)."""
    out, at = b"", 0
    while True:
        end = data.find(b"\n", at)
        line = data[at:] if end < 0 else data[at : end + 1]
        if len(line) > LONGEST_SIZE_LINE:
            return None
        if end < 0:
            return out, b"", False
        if not line.endswith(b"\r\n") or (size := _SIZE.fullmatch(line[:-2])) is None:
            return None
        at, length = end + 1, int(size[1], 16)
        if length == 0:
            return _after_trailers(data, at, out)
        out += data[at : at + length]
        at += length
        if at > len(data):
            return out, b"", False
        ending = data[at : at + 2]
        if not b"\r\n".startswith(ending):
            return None
        if len(ending) < 2:
            return out, b"", False
        at += 2


def _after_trailers(data: bytes, at: int, out: bytes) -> tuple[bytes, bytes, bool] | None:
    start = at
    while True:
        end = data.find(b"\n", at)
        if (len(data) if end < 0 else end + 1) - start > MOST_TRAILER_BYTES:
            return None
        if end < 0:
            return out, b"", False
        line = data[at : end + 1]
        at = end + 1
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            return None
        if line == b"\r\n":
            return out, data[at:], True


def depth(document: Any) -> int:
    """Levels of lists and objects."""
    deepest, level, todo = 0, 0, [document]
    while todo:
        inner: list[Any] = []
        level += 1
        for one in todo:
            if isinstance(one, dict | list):
                deepest = level
                inner += one.values() if isinstance(one, dict) else one
        todo = inner
    return deepest
