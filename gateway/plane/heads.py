"""Heads of requests and answers. llhttp judges and splits them; what it lets through against RFC 9112 is refused here.

A connection's next head is mostly the last one with another length. ``Memory`` recognises that by comparing bytes, so
such a head means exactly what llhttp said of the first: no second parser, a seventh of the time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from urllib.parse import unquote_to_bytes

import httptools

from gateway.headers import Headers

MOST_HEADERS = 100
LONGEST_LENGTH_DIGITS = 15  # a petabyte: int() of more would be work for nothing

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*", re.IGNORECASE)
_T = TypeVar("_T")


class BadHead(Exception):
    """What is wrong with a request's head, in words for whoever sent it. ``status``: 400 or 431."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class RequestHead:
    """``path`` is percent-decoded; ``target`` is as sent. ``length`` None: ``chunked``, or no body where it is not.

    The fields from ``looked_up`` on are kept here by others: they follow from the head alone, and it may come again.
    """

    __slots__ = (
        "address",
        "checked",
        "chunked",
        "cleared",
        "encoding",
        "endpoint",
        "engine_lines",
        "expects_continue",
        "headers",
        "http_1_0",
        "keep_alive",
        "key_hash",
        "length",
        "looked_up",
        "method",
        "path",
        "path_model",
        "priority",
        "query",
        "request_id",
        "session",
        "target",
        "timeout",
        "traceparent",
        "upgrade",
    )

    def __init__(self) -> None:
        self.method = ""
        self.target = b""
        self.path = ""
        self.query = b""
        self.headers: Headers = []
        self.length: int | None = None
        self.chunked = False
        self.keep_alive = True
        self.http_1_0 = False
        self.expects_continue = False
        self.upgrade: bytes | None = None  # the protocol asked for, lower-case
        self.request_id: str | None = None  # what the caller named it
        self.traceparent: bytes | None = None
        self.session: bytes | None = None
        self.encoding: str | None = None  # of the body
        self.timeout: str | None = None
        self.priority: str | None = None
        self.looked_up = False
        self.checked = False
        self.cleared = -1  # in which generation of the guard
        self.address = ""  # of its caller, as the guard sees it
        self.endpoint: Any = None
        self.path_model: str | None = None
        self.key_hash: str | None = None
        self.engine_lines: bytes | None = None  # what of the headers goes on to engines

    def first(self, name: bytes) -> str | None:
        for found, value in self.headers:
            if found == name:
                return value.decode("latin-1")
        return None


class AnswerHead:
    """``length`` None and not ``chunked``: the body lasts until the connection ends."""

    __slots__ = ("chunked", "headers", "keep_alive", "length", "lines", "media", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self.length: int | None = None
        self.chunked = False
        self.keep_alive = True
        self.media = ""
        self.lines = b""  # what of it goes on to the caller (``gateway.headers.lines_from_engine``)


class _Collector:
    """What llhttp calls back. A header may come in pieces; httptools joins those, but not those of the target."""

    __slots__ = ("headers", "target")

    def __init__(self) -> None:
        self.target = b""
        self.headers: Headers = []

    def on_url(self, piece: bytes) -> None:
        self.target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))


def parse_request(raw: bytes) -> RequestHead:
    """``raw`` ends with the blank line. Raises BadHead."""
    collected = _Collector()
    parser = httptools.HttpRequestParser(collected)
    head = RequestHead()
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        head.upgrade = b""
    except httptools.HttpParserInvalidMethodError as unknown:
        raise BadHead("The request's method is not one of HTTP.") from unknown
    except httptools.HttpParserError as wrong:
        raise BadHead(f"The request is not valid HTTP/1.1: {_reason(wrong)}.") from wrong
    version = parser.get_http_version()
    if version not in ("1.1", "1.0"):
        raise BadHead("Only HTTP/1.1 and HTTP/1.0 are spoken here.")
    head.method = parser.get_method().decode("ascii")
    head.http_1_0 = version == "1.0"
    head.headers = collected.headers
    head.keep_alive = _keeps(collected.headers, head.http_1_0)
    _read_headers(head)
    _read_target(head, collected.target)
    return head


def _read_headers(head: RequestHead) -> None:
    if len(head.headers) > MOST_HEADERS:
        raise BadHead(f"The request has more than {MOST_HEADERS} headers.", 431)
    hosts = 0
    codings: list[bytes] = []
    for name, value in head.headers:
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding":
            codings.append(value.strip().lower())
        elif (take := _TAKEN.get(name)) is not None:
            take(head, value)
    if hosts > 1 or (hosts == 0 and not head.http_1_0):
        raise BadHead("The request must have exactly one host header.")
    if codings:
        if codings != [b"chunked"]:
            raise BadHead("Of all transfer codings only a single chunked is understood.")
        if head.http_1_0 or head.length is not None:
            raise BadHead("The request frames its body in two ways.")
        head.chunked = True


def _take_length(head: RequestHead, value: bytes) -> None:
    head.length = _length(value)


def _take_encoding(head: RequestHead, value: bytes) -> None:
    head.encoding = value.decode("latin-1")


def _take_expectation(head: RequestHead, value: bytes) -> None:
    if value.strip().lower() != b"100-continue":
        raise BadHead("The header expect may only be 100-continue.")
    head.expects_continue = not head.http_1_0


def _take_upgrade(head: RequestHead, value: bytes) -> None:
    if head.upgrade is not None:  # llhttp saw that the connection header names it, too
        head.upgrade = value.strip().lower()


def _take_request_id(head: RequestHead, value: bytes) -> None:
    head.request_id = value.decode("latin-1")


def _take_trace(head: RequestHead, value: bytes) -> None:
    head.traceparent = value


def _take_session(head: RequestHead, value: bytes) -> None:
    head.session = value


def _take_timeout(head: RequestHead, value: bytes) -> None:
    head.timeout = value.decode("latin-1")


def _take_priority(head: RequestHead, value: bytes) -> None:
    head.priority = value.decode("latin-1")


_TAKEN: dict[bytes, Callable[[RequestHead, bytes], None]] = {
    b"content-encoding": _take_encoding,
    b"content-length": _take_length,
    b"expect": _take_expectation,
    b"traceparent": _take_trace,
    b"upgrade": _take_upgrade,
    b"x-request-id": _take_request_id,
    b"x-request-priority": _take_priority,
    b"x-request-timeout": _take_timeout,
    b"x-session-id": _take_session,
}


def _read_target(head: RequestHead, target: bytes) -> None:
    head.target = target
    if target.startswith(b"/"):
        local = target
    elif target.lower().startswith((b"http://", b"https://")):  # RFC 9112 section 3.2.2: as proxies are asked
        authority, slash, rest = target.partition(b"://")[2].partition(b"/")
        if not authority:
            raise BadHead("The request's target names no host.")
        local = slash + rest or b"/"
    elif target == b"*" and head.method == "OPTIONS":
        local = b"*"
    else:
        raise BadHead("The request's target must be a path that starts with /.")
    path, _, head.query = local.partition(b"#")[0].partition(b"?")
    try:
        head.path = (unquote_to_bytes(path) if b"%" in path else path).decode()
    except UnicodeDecodeError as wrong:
        raise BadHead("The request's path is not UTF-8.") from wrong


def parse_answer(raw: bytes) -> AnswerHead:
    """``raw`` ends with the blank line. Raises BadHead."""
    collected = _Collector()
    parser = httptools.HttpResponseParser(collected)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade as unwanted:
        raise BadHead("an upgrade that nobody asked for") from unwanted
    except httptools.HttpParserError as wrong:
        raise BadHead(_reason(wrong)) from wrong
    head = AnswerHead()
    head.status = parser.get_status_code()
    if head.status < 100:  # blank lines, which llhttp reads over
        raise BadHead("there is no status line")
    head.headers = collected.headers
    head.keep_alive = _keeps(collected.headers, parser.get_http_version() != "1.1")
    for name, value in collected.headers:
        if name == b"content-length":
            head.length = _length(value)
        elif name == b"transfer-encoding":
            if head.chunked or value.strip().lower() != b"chunked":
                raise BadHead("a transfer coding other than chunked")
            head.chunked = True
        elif name == b"content-type":
            head.media = value.decode("latin-1").strip().lower()
    if head.status in (204, 304):
        head.length, head.chunked = 0, False
    return head


def _keeps(headers: Headers, http_1_0: bool) -> bool:
    """RFC 9112 section 9.3. llhttp has forgotten it by the time that its message, which has no body here, is over."""
    options = {token.strip().lower() for name, value in headers if name == b"connection" for token in value.split(b",")}
    return b"close" not in options and (not http_1_0 or b"keep-alive" in options)


def _length(value: bytes) -> int:
    digits = value.strip()
    if not digits.isdigit() or len(digits) > LONGEST_LENGTH_DIGITS:
        raise BadHead("The header content-length is not a number of bytes that makes sense.")
    return int(digits)


def _reason(wrong: BaseException) -> str:
    """llhttp's own words: they name what it expected and repeat nothing of what was sent."""
    said = str(wrong.args[0]) if wrong.args else ""
    return said.rstrip(".")[:100] or "it cannot be parsed"


class Memory(Generic[_T]):
    """The last head of a connection, without the digits of its length."""

    __slots__ = ("_after", "_before", "_length", "_raw", "_start", "value")

    def __init__(self) -> None:
        self._raw = b""
        self._length = -1
        self._before = b""
        self._after = b""
        self._start = 0
        self.value: _T | None = None

    def keep(self, raw: bytes, value: _T) -> None:
        found = _LENGTH.search(raw)
        if found is None:
            self._start, self._before, self._after = len(raw), raw, b""
        else:
            self._start = found.end()
            self._before, self._after = raw[: self._start], raw[raw.index(b"\r\n", self._start) :]
        self.value = value
        self._raw = b""

    def recall(self, raw: bytes) -> int | None:
        """The length that ``raw`` names where it is the same head but for that; -1 where it is the same and names none.

        None: another head.
        """
        if raw == self._raw:
            return self._length
        if self.value is None or not raw.startswith(self._before):
            return None
        if not self._after:
            return -1 if len(raw) == self._start else None
        start = self._start
        end = raw.find(b"\r\n", start)
        digits = raw[start:end]
        if not digits.isdigit() or len(digits) > LONGEST_LENGTH_DIGITS or raw[end:] != self._after:
            return None
        self._raw, self._length = raw, int(digits)
        return self._length
