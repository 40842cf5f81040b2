"""R13: bodies are capped on the bytes that were read; 100 MB cost next to no memory."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator

import pytest

from tests.gateway.plane.promises.crowd import Crowd, run_all
from tests.gateway.plane.promises.town import Town
from tests.gateway.plane.protocol.wire import Caller

HUGE = 100_000_000
MOST_GROWTH = 50 << 20
PIECE = b" " * (1 << 20)
CHUNK = b"100000\r\n" + PIECE + b"\r\n"


@pytest.fixture
def measured(town: Town) -> Iterator[Town]:
    """Memory is looked at before and, at its peak, after."""
    town.open()
    town.route(town.model("m"))
    with town.caller() as caller:
        assert caller.ask(town.request()).status == 200
        town.forget_peak()
        before_bytes = town.memory_bytes()
        yield town
        assert town.peak_bytes() - before_bytes < MOST_GROWTH
        assert caller.ask(town.request()).status == 200


def refused(caller: Caller) -> None:
    answer = caller.answer()
    assert answer.status == 413
    assert answer.error()["code"] == "request_too_large"
    assert caller.is_closed()


def send_with_length(town: Town) -> None:
    with town.caller() as caller:
        caller.send(town.head(("content-length", str(HUGE))))
        for _ in range(HUGE >> 20):
            if caller.try_send(PIECE) < len(PIECE):
                break
        refused(caller)


def send_in_chunks(town: Town, chunk: bytes = CHUNK) -> None:
    with town.caller() as caller:
        caller.send(town.head(("transfer-encoding", "chunked")))
        for _ in range(HUGE // len(chunk)):
            if caller.try_send(chunk) < len(chunk):
                break
        refused(caller)


def test_r13_with_a_length(measured: Town) -> None:
    send_with_length(measured)


def test_r13_in_chunks(measured: Town) -> None:
    send_in_chunks(measured)


def test_r13_in_one_chunk_of_any_size(measured: Town) -> None:
    with measured.caller() as caller:
        caller.send(measured.head(("transfer-encoding", "chunked")) + b"fffffffff\r\n")
        for _ in range(HUGE >> 20):
            if caller.try_send(PIECE) < len(PIECE):
                break
        refused(caller)


def test_r13_several_at_once(measured: Town) -> None:
    run_all([lambda: send_with_length(measured)] * 4 + [lambda: send_in_chunks(measured)] * 3)


def test_r13_tiny_chunks(town: Town) -> None:
    """A byte in a chunk of its own costs six on the wire, and more of the gateway's time than any other. Who sends so
    is refused, and others do not notice."""
    town.open(request_timeout_s=3.0)
    town.route(town.model("m"))
    before = town.memory_bytes()
    town.forget_peak()
    senders = [threading.Thread(target=send_tiny_chunks, args=(town,), daemon=True) for _ in range(2)]
    for sender in senders:
        sender.start()
    crowd = Crowd(town, 4)
    for sender in senders:
        sender.join(30)
        assert not sender.is_alive()
    felt = crowd.stop()
    assert felt.wrong == []
    assert felt.percentile(0.99) < 0.5
    assert town.peak_bytes() - before < MOST_GROWTH


def send_tiny_chunks(town: Town) -> None:
    piece = b"1\r\n \r\n" * 20_000
    with town.caller() as caller:
        caller.send(town.head(("transfer-encoding", "chunked")))
        for _ in range(HUGE // len(piece)):
            if caller.try_send(piece) < len(piece):
                break
        answer = caller.answer()
        assert answer.status in (400, 408, 413)
        answer.error()


def test_r13_packed(measured: Town) -> None:
    packed = gzip.compress(bytes(HUGE), 9)
    with measured.caller() as caller:
        answer = caller.ask(measured.head(("content-length", str(len(packed))), ("content-encoding", "gzip")) + packed)
        assert answer.status == 413
        answer.error()


def test_r13_where_no_body_is_wanted(measured: Town) -> None:
    for path in ("/health", "/v1/models", "/nowhere"):
        with measured.caller() as caller:
            caller.send(measured.head(("content-length", str(HUGE)), method="GET", path=path))
            for _ in range(HUGE >> 20):
                if caller.try_send(PIECE) < len(PIECE):
                    break
            assert caller.answer("GET").status < 500
