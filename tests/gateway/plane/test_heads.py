"""Heads: what llhttp lets through is split right, what RFC 9112 forbids is refused, what is remembered is the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.plane.heads import MOST_HEADERS, BadHead, Memory, RequestHead, parse_answer, parse_request

HEAD = b"POST /v1/chat/completions?a=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\nAuthorization: Bearer k\r\n\r\n"


def request(*lines: bytes, first: bytes = b"POST /v1/x HTTP/1.1") -> bytes:
    return b"\r\n".join((first, *lines, b"", b""))


def test_a_request_is_split() -> None:
    head = parse_request(HEAD)
    assert (head.method, head.path, head.query, head.length) == ("POST", "/v1/chat/completions", b"a=1", 12)
    assert head.headers == [(b"host", b"x"), (b"content-length", b"12"), (b"authorization", b"Bearer k")]
    assert (head.keep_alive, head.chunked, head.http_1_0, head.upgrade) == (True, False, False, None)


@pytest.mark.parametrize(
    ("raw", "keeps"),
    [
        (request(b"Host: x"), True),
        (request(b"Host: x", b"Connection: close"), False),
        (request(b"Host: x", first=b"GET / HTTP/1.0"), False),
        (request(b"Host: x", b"Connection: keep-alive", first=b"GET / HTTP/1.0"), True),
    ],
)
def test_who_keeps_the_connection(raw: bytes, keeps: bool) -> None:
    assert parse_request(raw).keep_alive is keeps


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/a/b", "/a/b"),
        (b"/a%20b", "/a b"),
        (b"/%E2%82%AC", "/€"),
        (b"http://h/p?q", "/p"),
        (b"HTTP://h", "/"),
        (b"/a#b", "/a"),
        (b"/v1/predict/a%2Fb", "/v1/predict/a/b"),
    ],
)
def test_targets(target: bytes, path: str) -> None:
    assert parse_request(request(b"Host: x", first=b"GET " + target + b" HTTP/1.1")).path == path


def test_headers_that_the_data_plane_goes_by() -> None:
    head = parse_request(
        request(
            b"Host: x",
            b"Expect: 100-continue",
            b"X-Request-Id: r",
            b"X-Session-Id: s",
            b"X-Request-Timeout: 3",
            b"X-Request-Priority: -1",
            b"traceparent: t",
            b"Transfer-Encoding: Chunked",
        )
    )
    assert (head.expects_continue, head.request_id, head.session, head.timeout) == (True, "r", b"s", "3")
    assert (head.priority, head.traceparent, head.chunked, head.length) == ("-1", b"t", True, None)


def test_an_upgrade_counts_when_both_headers_say_so() -> None:
    both = request(b"Host: x", b"Connection: Upgrade", b"Upgrade: WebSocket", first=b"GET / HTTP/1.1")
    assert parse_request(both).upgrade == b"websocket"
    assert parse_request(request(b"Host: x", b"Upgrade: websocket", first=b"GET / HTTP/1.1")).upgrade is None


@pytest.mark.parametrize(
    "raw",
    [
        request(),
        request(b"Host: x", b"Host: y"),
        request(b"Host: x", b"Content-Length: 1", b"Content-Length: 1"),
        request(b"Host: x", b"Content-Length: 1", b"Transfer-Encoding: chunked"),
        request(b"Host: x", b"Transfer-Encoding: gzip, chunked"),
        request(b"Host: x", b"Transfer-Encoding: identity"),
        request(b"Host: x", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        request(b"Host: x", b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0"),
        request(b"Host: x", b"Content-Length: -1"),
        request(b"Host: x", b"Content-Length: 1e3"),
        request(b"Host: x", b"Content-Length: " + b"9" * 16),
        request(b"Host: x", b"Expect: else"),
        request(b"Host: x", b"A : b"),
        request(b"Host: x", b"A: b", b" folded"),
        request(b"Host: x", b"A: \x00"),
        request(b"Host: x", first=b"GET / HTTP/2.0"),
        request(b"Host: x", first=b"GET / HTTP/0.9"),
        request(b"Host: x", first=b"BREW / HTTP/1.1"),
        request(b"Host: x", first=b"GET x HTTP/1.1"),
        request(b"Host: x", first=b"GET * HTTP/1.1"),
        request(b"Host: x", first=b"CONNECT a:1 HTTP/1.1"),
        request(b"Host: x", first=b"GET /%ff HTTP/1.1"),
        request(b"Host: x", first=b"GET http:// HTTP/1.1"),
        b"GET / HTTP/1.1\nHost: x\n\r\n\r\n",
    ],
)
def test_what_is_wrong_is_refused_with_a_4xx(raw: bytes) -> None:
    with pytest.raises(BadHead) as refused:
        parse_request(raw)
    assert refused.value.status == 400
    assert refused.value.message.endswith(".")


def test_too_many_headers() -> None:
    with pytest.raises(BadHead) as refused:
        parse_request(request(b"Host: x", *[b"a: b"] * MOST_HEADERS))
    assert refused.value.status == 431


def test_an_answer_is_split() -> None:
    head = parse_answer(b"HTTP/1.1 200 OK\r\ncontent-type: Text/Event-Stream\r\ntransfer-encoding: chunked\r\n\r\n")
    assert (head.status, head.media, head.chunked, head.length) == (200, "text/event-stream", True, None)
    assert parse_answer(b"HTTP/1.1 204 No Content\r\n\r\n").length == 0
    assert parse_answer(b"HTTP/1.1 200 OK\r\n\r\n").length is None


@pytest.mark.parametrize(
    "raw",
    [
        b"HTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
    ],
)
def test_an_answer_that_is_none(raw: bytes) -> None:
    with pytest.raises(BadHead):
        parse_answer(raw)


# -- memory --------------------------------------------------------------------------------------------------------


def with_length(digits: bytes) -> bytes:
    return HEAD.replace(b"12", digits)


@given(st.integers(0, 10**14))
def test_the_same_head_with_another_length_is_recognised(length: int) -> None:
    memory: Memory[RequestHead] = Memory()
    memory.keep(HEAD, parse_request(HEAD))
    raw = with_length(b"%d" % length)
    assert memory.recall(raw) == length == parse_request(raw).length


@pytest.mark.parametrize(
    "raw",
    [
        with_length(b""),
        with_length(b"-1"),
        with_length(b"+1"),
        with_length(b" 1"),
        with_length(b"1 "),
        with_length(b"1" * 16),
        with_length(b"1\r\nX-Other: 1"),
        with_length(b"1\r\nTransfer-Encoding: chunked"),
        HEAD.replace(b"Bearer k", b"Bearer l"),
        HEAD.replace(b"POST", b"PUT"),
        HEAD[:-2] + b"A: b\r\n\r\n",
        HEAD.replace(b"Content-Length", b"content-length"),
    ],
)
def test_any_other_is_not(raw: bytes) -> None:
    memory: Memory[RequestHead] = Memory()
    memory.keep(HEAD, parse_request(HEAD))
    assert memory.recall(raw) is None


def test_a_head_without_a_length() -> None:
    raw = request(b"Host: x", first=b"GET / HTTP/1.1")
    memory: Memory[RequestHead] = Memory()
    assert memory.recall(raw) is None
    memory.keep(raw, parse_request(raw))
    assert memory.recall(raw) == -1
    assert memory.recall(raw[:-2] + b"A: b\r\n\r\n") is None


@given(st.binary(max_size=60), st.integers(0, len(HEAD)))
def test_what_is_recalled_means_what_llhttp_says(inserted: bytes, at: int) -> None:
    """The shortcut never differs from the parser, whatever the bytes."""
    memory: Memory[RequestHead] = Memory()
    memory.keep(HEAD, parse_request(HEAD))
    raw = HEAD[:at] + inserted + HEAD[at:]
    length = memory.recall(raw)
    if length is not None:
        head = parse_request(raw)
        assert head.length == length
        assert [pair for pair in head.headers if pair[0] != b"content-length"] == [
            (b"host", b"x"),
            (b"authorization", b"Bearer k"),
        ]
