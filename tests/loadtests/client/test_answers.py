"""An HTTP answer is the same in whatever pieces it comes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.client.answers import Answer, AnswerError, server_timing

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nt: 1\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + LENGTH


def read(data: bytes, cuts: list[int]) -> tuple[Answer, bytes]:
    answer, body = Answer(), b""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for begin, end in pairwise(places):
        if begin < end:
            body += answer.feed(data[begin:end])
    return answer, body


@pytest.mark.parametrize("data", [LENGTH, CHUNKED, INTERIM])
@given(cuts=st.lists(st.integers(0, 10_000), max_size=12))
def test_pieces_of_any_size(data: bytes, cuts: list[int]) -> None:
    answer, body = read(data, cuts)
    assert (answer.status, body, answer.done, answer.keep) == (200, b"hello", True, True)


@pytest.mark.parametrize("data", [LENGTH, CHUNKED])
def test_the_body_comes_out_as_it_comes_in_and_does_not_wait_for_its_chunk(data: bytes) -> None:
    answer, seen = Answer(), b""
    for at in range(len(data)):
        seen += answer.feed(data[at : at + 1])
        inside = [data[: at + 1].count(part) for part in (b"\r\nhel", b"\r\nhello")]
        if any(inside):
            assert seen.startswith(b"hel")
    assert (seen, answer.done) == (b"hello", True)


@given(
    st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=6),
    st.lists(st.integers(0, 10_000), max_size=12),
    st.integers(0, 300),
)
def test_any_body_in_any_chunks_and_any_pieces_is_that_body(chunks: list[bytes], cuts: list[int], bad: int) -> None:
    """And with one wrong line end, it is refused wherever it was cut."""
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    data = head + b"".join(b"%X\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    answer, body = read(data, cuts)
    assert (body, answer.done, answer.keep) == (b"".join(chunks), True, True)
    end = len(head) + len(b"%X\r\n" % len(chunks[0])) + len(chunks[0]) + bad % 2
    with pytest.raises(AnswerError, match="longer than it said"):
        read(data[:end] + b"!" + data[end + 1 :], cuts)


def test_a_header_that_comes_twice_is_one_list() -> None:
    head = b"HTTP/1.1 200 OK\r\nserver-timing: auth;dur=1\r\nServer-Timing: queue;dur=2\r\ncontent-length: 0\r\n\r\n"
    assert server_timing(read(head, [])[0].headers[b"server-timing"]) == {"auth": 1.0, "queue": 2.0}


def test_names_of_headers_are_in_small_letters() -> None:
    assert read(LENGTH, [])[0].headers[b"x-a"] == b"b"


@pytest.mark.parametrize(
    ("head", "keep"),
    [
        (b"HTTP/1.1 200 OK\r\nconnection: close", False),
        (b"HTTP/1.1 200 OK\r\nConnection: TE, Close", False),
        (b"HTTP/1.1 200 OK", True),
        (b"HTTP/1.0 200 OK", False),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive", True),
    ],
)
def test_whether_the_connection_may_be_used_again(head: bytes, keep: bool) -> None:
    assert read(head + b"\r\ncontent-length: 0\r\n\r\n", [])[0].keep is keep


def test_what_nobody_asked_for_ends_the_connection() -> None:
    assert read(LENGTH + b"more", [])[0].keep is False


def test_without_a_length_the_end_of_the_connection_is_the_end() -> None:
    answer, body = read(b"HTTP/1.1 200 OK\r\n\r\nhello", [])
    assert (body, answer.done) == (b"hello", False)
    answer.close()
    assert (answer.done, answer.keep) == (True, False)


@pytest.mark.parametrize("data", [b"", LENGTH[:-1], CHUNKED[:-8]])
def test_an_answer_that_is_cut_off_is_noticed(data: bytes) -> None:
    answer = Answer()
    if data:
        answer.feed(data)
    with pytest.raises(AnswerError, match="closed"):
        answer.close()


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc no\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabcd\r\n",
        b"x" * 70_000,
    ],
)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(AnswerError):
        Answer().feed(data)


def test_server_timing_is_milliseconds_by_name() -> None:
    value = b'auth;dur=0.12, queue;desc="a place";dur=3, cache;desc=hit, bad;dur=x, ;dur=4'
    assert server_timing(value) == {"auth": 0.12, "queue": 3.0}
