"""Status lines, and what an error's head says below them."""

from __future__ import annotations

from http import HTTPStatus

from gateway.errors import GatewayError
from gateway.headers import lines

_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


def status_line(status: int) -> bytes:
    """Also for statuses that nobody has named."""
    line = _LINES.get(status)
    return line if line is not None else b"HTTP/1.1 %d \r\n" % status


def error_lines(error: GatewayError) -> bytes:
    """Without framing and request id."""
    given = [(name.encode(), value.encode()) for name, value in error.headers()]
    return lines([(b"content-type", b"application/json"), *given])
