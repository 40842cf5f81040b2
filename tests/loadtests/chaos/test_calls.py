from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from loadtests.chaos.calls import Call, How, place
from loadtests.chat import ChatRequest
from loadtests.target import Target
from tests.loadtests.fake_service import FakeModel, FakeService

BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n%b\r\n{}"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def made(target: Target, streamed: bool = False, timeout_s: float = 5.0) -> Call:
    call = Call("m", streamed, time.monotonic())
    place(target, ChatRequest("m", "hello", 4), call, time.monotonic, timeout_s)
    return call


@contextmanager
def saying(answer: bytes, hang: bool = False) -> Iterator[Target]:
    """A server that reads a request, says ``answer`` and hangs up, or does not."""
    over = threading.Event()

    def serve() -> None:
        link, _ = listener.accept()
        with link:
            link.recv(65536)
            link.sendall(answer)
            if hang:
                over.wait(30)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Target(f"http://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize("streamed", [False, True])
def test_answered(streamed: bool) -> None:
    with FakeService({"m": FakeModel()}).running() as service:
        call = made(service.target, streamed)
    assert call.how is How.OK
    assert call.status == 200
    assert call.first_byte_s is not None
    assert call.began_s < call.first_byte_s <= call.ended_s
    assert call.over
    assert not call.failed


def test_a_stream_that_ends_with_an_error_event() -> None:
    with FakeService({"m": FakeModel(breaks="error")}).running() as service:
        call = made(service.target, streamed=True)
    assert call.how is How.ERROR_EVENT
    assert "the engine died" in call.text


@pytest.mark.parametrize("how", ["cut", "no done"])
def test_a_stream_that_is_cut(how: str) -> None:
    with FakeService({"m": FakeModel(breaks=how)}).running() as service:
        assert made(service.target, streamed=True).how is How.CUT


def test_refused_in_order_and_not_in_order() -> None:
    with saying(BUSY % b"retry-after: 2\r\n") as target:
        assert made(target).how is How.REFUSED
    with saying(BUSY % b"") as target:
        call = made(target)
    assert call.how is How.WRONG_STATUS
    assert call.status == 503
    with saying(b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\nretry-after: 2\r\n\r\n") as target:
        assert made(target).how is How.WRONG_STATUS


def test_nobody_takes_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    assert made(Target(f"http://127.0.0.1:{port}")).how is How.UNCONNECTED


def test_hung_up_before_and_after_the_first_byte() -> None:
    with saying(b"") as target:
        assert made(target).how is How.BROKEN
    with saying(STREAM) as target:
        assert made(target, streamed=True).how is How.CUT
    with saying(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}") as target:
        assert made(target).how is How.CUT


def test_silent_before_and_after_the_first_byte() -> None:
    with saying(b"", hang=True) as target:
        call = made(target, timeout_s=0.05)
    assert call.how is How.SILENT
    assert call.text == "nothing for 0.05 s"
    with saying(STREAM, hang=True) as target:
        assert made(target, streamed=True, timeout_s=0.05).how is How.CUT
