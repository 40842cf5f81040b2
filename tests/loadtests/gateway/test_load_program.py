"""The callers count what they get, and call nothing an answer that is none."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loadtests.gateway.callers import Callers, finish, opened
from loadtests.gateway.problems import CannotMeasure
from loadtests.gateway.traffic import BRIEF, BURST, HELD, PACED, PLAIN, chat, request, write_requests

Script = Callable[[socket.socket, int], bool]  # the connection, the request's number on it; False: close


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return write_requests(tmp_path / "plain", [request(chat(PLAIN), "key")])


def stream(folder: Path, model: str) -> Path:
    return write_requests(folder / model, [request(chat(model, stream=True), "key")])


@contextlib.contextmanager
def server(script: Script) -> Iterator[int]:
    """Answers each whole request by the script."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener, script), daemon=True).start()
        yield listener.getsockname()[1]


def accept(listener: socket.socket, script: Script) -> None:
    with contextlib.suppress(OSError):
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0], script), daemon=True).start()


def serve(connection: socket.socket, script: Script) -> None:
    with contextlib.suppress(OSError), connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(1_000_000):
            seen = b""
            while b'"max_tokens":128}' not in seen:
                got = connection.recv(65536)
                if not got:
                    return
                seen += got
            if not script(connection, number):
                return


def says(*pieces: bytes, stay: bool = True) -> Script:
    def script(connection: socket.socket, _number: int) -> bool:
        for piece in pieces:
            connection.sendall(piece)
        return stay

    return script


def bytes_of(text: bytes) -> list[bytes]:
    return [text[index : index + 1] for index in range(len(text))]


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = b"6;a=b\r\ndata: \r\n3\r\n1\n\n\r\n0c\r\ndata: 2\n\ndat\r\n5\r\na: 3\n\r\n1\r\n\n\r\n0\r\nx-sum: 1\r\n\r\n"


def test_engine_and_callers_together(engine: int | None, callers: Callers | None, plain: Path) -> None:
    if engine is None or callers is None:
        return
    seen = callers.run(engine, plain, 16, 0.3)
    assert seen.trouble is None
    assert seen.latency is not None
    assert seen.latency.count == seen.done > 0
    assert 0 < seen.latency.p50 <= seen.latency.p90 <= seen.latency.p99 <= seen.latency.largest


def test_streams_are_counted_by_their_events(engine: int | None, callers: Callers | None, tmp_path: Path) -> None:
    if engine is None or callers is None:
        return
    seen = callers.run(engine, stream(tmp_path, BURST), 4, 0.3, events=66)
    assert seen.trouble is None
    assert abs(seen.events - 66 * seen.done) <= 66 * 8  # those under way when counting began and ended
    brief = callers.run(engine, stream(tmp_path, BRIEF), 1, 0.3, events=3)
    assert brief.done > 0
    assert brief.first_byte is not None
    assert brief.latency is not None
    assert brief.first_byte.p50 < brief.latency.p50  # the end comes 5 ms after the first token


def test_a_stream_without_all_of_its_events_failed(engine: int | None, callers: Callers | None, tmp_path: Path) -> None:
    if engine is None or callers is None:
        return
    seen = callers.run(engine, stream(tmp_path, BRIEF), 1, 0.2, events=4)
    assert seen.done == 0
    assert seen.trouble is not None
    assert seen.why == "a stream ended early (status 200)"


def test_a_rate_is_kept(engine: int | None, callers: Callers | None, plain: Path) -> None:
    if engine is None or callers is None:
        return
    seen = callers.run(engine, plain, 8, 0.5, rate=1000)
    assert seen.trouble is None
    assert 0 < seen.done <= 520  # of 500: a busy machine may fall behind, never run ahead


def test_callers_that_leave_come_back(engine: int | None, callers: Callers | None, tmp_path: Path) -> None:
    if engine is None or callers is None:
        return
    seen = callers.run(engine, stream(tmp_path, PACED), 2, 0.3, leave=2)
    assert seen.trouble is None
    assert seen.done == 0
    assert seen.first_byte is not None
    assert seen.first_byte.count > 2


def test_streams_are_held_open(engine: int | None, callers: Callers | None, tmp_path: Path) -> None:
    if engine is None or callers is None:
        return
    with callers.running(engine, stream(tmp_path, HELD), 50, 0.2, hold=True) as process:
        assert process.stdout is not None
        assert opened(process.stdout) == (50, 0, "")
        seen = finish(process, 0.2)
    assert (seen.opened, seen.failed) == (50, 0)


@pytest.mark.parametrize("split", [bytes_of, lambda text: [text]], ids=["byte by byte", "at once"])
def test_chunks_are_taken_apart_wherever_they_are_cut(
    callers: Callers | None, tmp_path: Path, split: Callable[[bytes], list[bytes]]
) -> None:
    if callers is None:
        return
    with server(says(*split(CHUNKED + EVENTS))) as port:
        seen = callers.run(port, stream(tmp_path, BURST), 1, 0.3, events=3)
    assert seen.trouble is None
    assert seen.done > 0
    assert abs(seen.events - 3 * seen.done) <= 3


def test_an_answer_may_end_with_its_connection(callers: Callers | None, plain: Path) -> None:
    if callers is None:
        return
    with server(says(b"HTTP/1.0 200 OK\r\n\r\n", b"{}", stay=False)) as port:
        seen = callers.run(port, plain, 2, 0.3)
    assert seen.trouble is None
    assert seen.done > 2


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\n{}", "not an answer (status 503)"),
        (b"220 mail.example\r\n\r\n", "not HTTP (status 0)"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "closed early (status 200)"),
        (CHUNKED + b"zz\r\n", "malformed chunks (status 200)"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 5000, "not HTTP (status 0)"),
    ],
)
def test_what_is_no_answer_failed(callers: Callers | None, plain: Path, answer: bytes, why: str) -> None:
    if callers is None:
        return
    with server(says(answer, stay=False)) as port:
        seen = callers.run(port, plain, 1, 0.2)
    assert (seen.done, seen.why) == (0, why)
    assert seen.failed > 0


def test_a_connection_that_was_closed_meanwhile_is_no_failure(callers: Callers | None, plain: Path) -> None:
    if callers is None:
        return
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

    def closes_after_two(connection: socket.socket, number: int) -> bool:
        connection.sendall(whole)
        return number < 1

    with server(closes_after_two) as port:
        seen = callers.run(port, plain, 1, 0.3)
    assert seen.trouble is None
    assert seen.done > 2


def test_a_server_that_never_answers_is_told(callers: Callers | None, plain: Path) -> None:
    if callers is None:
        return
    with server(says()) as port:
        seen = callers.run(port, plain, 3, 0.1)
    assert (seen.done, seen.stuck) == (0, 3)
    assert seen.trouble == "3 requests got no answer"


def test_nobody_there_is_told(callers: Callers | None, plain: Path) -> None:
    if callers is None:
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    seen = callers.run(port, plain, 3, 0.1)
    assert (seen.done, seen.failed, seen.why) == (0, 3, "Connection refused (status 0)")


def test_wrong_files_are_refused(callers: Callers | None, tmp_path: Path) -> None:
    if callers is None:
        return
    for name, content, problem in (("empty", b"", "is empty"), ("cut", b"\x09\0\0\0GET", "ends within a request")):
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(CannotMeasure, match=problem):
            callers.run(1, file, 1, 0.1)
