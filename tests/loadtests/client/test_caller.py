"""Calls over real sockets, with no greenlet and no thread of their own."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loadtests.client.address import Address, find_address
from loadtests.client.call import CONNECT_FAILED, CONNECTION_LOST, STREAM_BROKEN, TIMEOUT, UNFINISHED, Ask, Call
from loadtests.client.caller import Caller
from loadtests.client.dialects import DIALECTS, Wanted
from loadtests.client.moments import clock
from loadtests.target import Target
from tests.gateway.certificates import ONE, ONE_KEY
from tests.loadtests.fake_service import API_KEY, FakeModel, FakeService

PATIENCE_S = 20.0


def asked(model: str = "m", dialect: str = "chat", stream: bool = True) -> Call:
    body = DIALECTS[dialect].body(Wanted(model, [("user", "hi")], stream=stream))
    return Call(Ask(model, dialect, body, stream, API_KEY))


@contextlib.contextmanager
def calling(address: Address, timeout_s: float = 10.0, keep: bool = True) -> Iterator[Caller]:
    caller = Caller(address, select.epoll(), timeout_s, keep)
    try:
        yield caller
    finally:
        caller.abort_all(UNFINISHED, "the test is over")
        caller.close()


@contextlib.contextmanager
def called(model: FakeModel, timeout_s: float = 10.0) -> Iterator[tuple[FakeService, Caller]]:
    """A service with one model, and somebody who calls it."""
    with FakeService({"m": model}).running() as service, calling(find_address(service.target), timeout_s) as caller:
        yield service, caller


def until(caller: Caller, done: Callable[[], bool]) -> None:
    give_up_s = clock() + PATIENCE_S
    while not done():
        assert clock() < give_up_s, "it did not come to that"
        caller.service(0.05)


def send(caller: Caller, *calls: Call) -> list[Call]:
    """In the order in which they ended."""
    ended: list[Call] = []
    for call in calls:
        caller.begin(call, ended.append)
    until(caller, lambda: len(ended) == len(calls))
    return ended


def test_every_word_of_many_streams_at_once() -> None:
    words = tuple(f" {number}" for number in range(7))
    with called(FakeModel(words, gap_s=0.01, state="ready")) as (_service, caller):
        ended = send(caller, *(asked() for _ in range(25)))
        assert not [call.message for call in ended if call.error]
        assert {len(call.token_times_s) for call in ended} == {7}
        assert all(call.connect_s is not None and call.first_byte_s is not None for call in ended)
        assert caller.stamps.seen == caller.late.count > 0


def test_tokens_are_timed_as_they_were_sent() -> None:
    with called(FakeModel(("a", "b", "c"), gap_s=0.05, state="ready")) as (service, caller):
        (call,) = send(caller, asked())
    began_s, *sent_s = service.tokens[0]
    assert call.sent_s < began_s
    assert all(abs(seen - sent) < 0.02 for seen, sent in zip(call.token_times_s, sent_s, strict=True))
    assert [seen > sent - 1e-3 for seen, sent in zip(call.token_times_s, sent_s, strict=True)] == [True] * 3


@pytest.mark.parametrize(("dialect", "stream"), [("completions", True), ("messages", True), ("messages", False),
                                                 ("chat", False), ("embeddings", False)])  # fmt: skip
def test_every_dialect_gets_its_answer(dialect: str, stream: bool) -> None:
    with called(FakeModel(state="ready")) as (service, caller):
        (call,) = send(caller, asked(dialect=dialect, stream=stream))
    assert (call.error, call.closed, call.status) == ("", True, 200)
    assert service.paths == [DIALECTS[dialect].path]
    assert len(call.token_times_s) == (4 if stream else 0)


def test_a_connection_is_used_again_and_only_then_has_no_time_of_connecting() -> None:
    with called(FakeModel(state="ready")) as (service, caller):
        first, second = send(caller, asked()) + send(caller, asked())
        assert (first.connect_s is None, second.connect_s is None) == (False, True)
        assert caller.connections == 1
        with calling(find_address(service.target), keep=False) as caller:
            send(caller, asked())
            send(caller, asked())
            assert caller.connections == 2


def test_what_the_service_tells_of_its_own_time() -> None:
    with called(FakeModel(state="ready", timing="auth;dur=0.5, wake;dur=12")) as (_service, caller):
        (call,) = send(caller, asked())
    assert call.timing_ms == {"auth": 0.5, "wake": 12.0}


@pytest.mark.parametrize(
    ("model", "error", "why"),
    [
        (FakeModel(refusal=(503, "no room")), "model_start_failed", "no room"),
        (FakeModel(breaks="error"), "engine_died", "the engine died"),
        (FakeModel(breaks="done"), STREAM_BROKEN, "without its end"),
        (FakeModel(breaks="cut"), CONNECTION_LOST, "in the middle of the answer"),
    ],
)
def test_failures_have_a_code(model: FakeModel, error: str, why: str) -> None:
    with FakeService({"m": model}).running() as service, calling(find_address(service.target)) as caller:
        (call,) = send(caller, asked())
    assert call.error == error
    assert why in call.message
    assert call.ended_s is not None


def test_silence_is_given_up() -> None:
    with called(FakeModel(breaks="hang"), timeout_s=0.2) as (_service, caller):
        (call,) = send(caller, asked())
    assert (call.error, len(call.token_times_s)) == (TIMEOUT, 4)


def test_one_call_or_all_can_be_given_up() -> None:
    with called(FakeModel(breaks="hang")) as (_service, caller):
        calls, ended = [asked() for _ in range(3)], list[Call]()
        for call in calls:
            caller.begin(call, ended.append)
        until(caller, lambda: all(len(call.token_times_s) == 4 for call in calls))
        caller.abort(calls[1], UNFINISHED, "enough")
        assert ended == [calls[1]]
        assert caller.abort_all(UNFINISHED, "the end") == 2
        assert {call.error for call in calls} == {UNFINISHED}
        assert caller.open_calls == 0


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with calling(find_address(Target(f"http://127.0.0.1:{taken.getsockname()[1]}"))) as caller:
            (call,) = send(caller, asked())
    assert (call.error, call.message) == (CONNECT_FAILED, "cannot connect: ECONNREFUSED")


ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s"
BODY = b'{"choices": [{"text": "x", "finish_reason": "stop"}]}'


def server(listener: socket.socket, answers: list[list[bytes]]) -> threading.Thread:
    """One connection after the other: each answers so many requests, and is then closed."""

    def serve() -> None:
        for pieces in answers:
            link, _ = listener.accept()
            with link:
                for piece in pieces:
                    link.recv(65536)
                    link.sendall(piece)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def test_a_connection_that_went_stale_is_tried_once_more() -> None:
    whole = ANSWER % (len(BODY), BODY)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = server(listener, [[whole], [whole]])
        with calling(find_address(Target(f"http://127.0.0.1:{listener.getsockname()[1]}"))) as caller:
            first, second = send(caller, asked(stream=False)) + send(caller, asked(stream=False))
            assert (first.error, second.error, caller.connections) == ("", "", 2)
        thread.join()


def test_a_unix_socket_is_a_target_too(tmp_path: Path) -> None:
    path = f"/tmp/rh-{os.getpid()}-caller.sock"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            thread = server(listener, [[ANSWER % (len(BODY), BODY)]])
            with calling(find_address(Target(f"unix:{path}"))) as caller:
                (call,) = send(caller, asked(stream=False))
                assert (call.error, caller.stamps.seen) == ("", 0)
            thread.join()
    finally:
        os.unlink(path)


def test_tls(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text(ONE)
    (tmp_path / "key.pem").write_text(ONE_KEY)
    ours, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cadata=ONE)
    ours.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    service = FakeService({"m": FakeModel(state="ready")})
    service.server.socket = ours.wrap_socket(service.server.socket, server_side=True, do_handshake_on_connect=False)
    with service.running():
        at = service.server.server_address
        address = Address(socket.AF_INET, at, "127.0.0.1", trusting, "127.0.0.1")
        with calling(address) as caller:
            first, second = send(caller, asked()) + send(caller, asked())
            assert [call.message for call in (first, second)] == ["", ""]
            assert (len(second.token_times_s), caller.connections) == (4, 1)
        distrusting = Address(socket.AF_INET, at, "127.0.0.1", ssl.create_default_context(), "127.0.0.1")
        with calling(distrusting) as caller:
            (call,) = send(caller, asked())
            assert call.error == CONNECT_FAILED
            assert "CERTIFICATE_VERIFY_FAILED" in call.message


def test_what_is_due_is_done_in_order_and_not_before() -> None:
    with FakeService({}).running() as service, calling(find_address(service.target)) as caller:
        done: list[tuple[str, float]] = []
        begun_s = clock()
        for name, after_s in (("third", 0.03), ("first", 0.01), ("second", 0.02)):
            caller.at(begun_s + after_s, lambda name=name: done.append((name, clock())))  # type: ignore[misc]
        until(caller, lambda: len(done) == 3)
    assert [name for name, _ in done] == ["first", "second", "third"]
    assert all(at_s >= begun_s + after_s for (_, at_s), after_s in zip(done, (0.01, 0.02, 0.03), strict=True))
