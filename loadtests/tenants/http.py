"""The little of HTTP/1.1 that the benchmark's engine and callers need: bodies with a length, connections that stay."""

from __future__ import annotations

import asyncio


class Broken(Exception):
    """The other side closed the connection in the middle of a message, or sent none that has a length."""


async def read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """(first line, body). Raises Broken; and EOFError where the connection ended between two messages."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as ended:
        if ended.partial:
            raise Broken("the connection ended in the middle of a head") from None
        raise EOFError from None
    first, *lines = head.lower().split(b"\r\n")
    length = next((line[15:] for line in lines if line.startswith(b"content-length:")), None)
    if length is None:
        raise Broken(f"no content-length in {head[:200]!r}")
    try:
        return first, await reader.readexactly(int(length))
    except asyncio.IncompleteReadError:
        raise Broken("the connection ended in the middle of a body") from None


def request(body: bytes, key: str) -> bytes:
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {key}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
