"""One connection against a server that sends just these bytes: in pieces, with oddities, or cut off."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from loadtests.client.address import find_address
from loadtests.client.call import CONNECTION_LOST, STREAM_BROKEN, Ask, Call
from loadtests.client.caller import Caller
from loadtests.client.connection import STALE_S
from loadtests.target import Target
from tests.loadtests.client.test_caller import asked, calling, send, until

WHOLE = b'{"choices": [{"message": {"content": "Steam."}, "finish_reason": "stop"}]}'
EVENTS = b"".join(
    b'data: {"choices": [{"delta": {"content": "%s"}, "finish_reason": null}]}\n\n' % word
    for word in (b"Steam", b" and", b" iron")
)
STREAM = EVENTS + b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
Serve = Callable[[socket.socket], None]


def head(*lines: bytes, status: bytes = b"200 OK") -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + status, *lines, b"", b""])


def sized(body: bytes, status: bytes = b"200 OK") -> bytes:
    return head(b"content-type: application/json", b"content-length: %d" % len(body), status=status) + body


def chunked(body: bytes, size: int = 50) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return head(b"content-type: text/event-stream", b"transfer-encoding: chunked") + chunks + b"0\r\n\r\n"


class Server:
    """Accepts, reads a request whole, and does with the connection what its n-th serve says; the last one again."""

    def __init__(self, *serves: Serve) -> None:
        self.requests: list[bytes] = []
        self.accepted = 0
        self._serves = serves
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._links: list[socket.socket] = []

    @contextlib.contextmanager
    def running(self, keep: bool = True) -> Iterator[Caller]:
        thread = threading.Thread(target=self._accept, daemon=True)
        thread.start()
        port = self._listener.getsockname()[1]
        try:
            with calling(find_address(Target(f"http://127.0.0.1:{port}")), keep=keep) as caller:
                yield caller
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            thread.join()
            for link in self._links:
                link.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = self._listener.accept()
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._links.append(link)
                self.accepted += 1
                threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while request := read_request(link):
                self.requests.append(request)
                self._serves[min(len(self.requests), len(self._serves)) - 1](link)


def read_request(link: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        if not (piece := link.recv(65536)):
            return b""
        data += piece
    before, _, body = data.partition(b"\r\n\r\n")
    (length,) = (
        int(line.split(b":")[1]) for line in before.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    while len(body) < length:
        body += link.recv(65536)
    return before + b"\r\n\r\n" + body


def says(*pieces: bytes, close: bool = False) -> Serve:
    def serve(link: socket.socket) -> None:
        for piece in pieces:
            link.sendall(piece)
        if close:
            link.shutdown(socket.SHUT_RDWR)

    return serve


def one(serve: Serve, call: Call | None = None) -> Call:
    with Server(serve).running() as caller:
        (ended,) = send(caller, call or asked(stream=False))
        return ended


def cut(data: bytes, size: int) -> Sequence[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_an_answer_in_pieces_of_any_size_is_the_same_answer(size: int) -> None:
    call = one(says(*cut(chunked(STREAM), size)), asked())
    assert (call.error, call.status, call.closed, call.finish_reason) == ("", 200, True, "stop")
    assert len(call.token_times_s) == 3
    assert call.head_s is not None
    assert call.first_byte_s is not None
    assert call.head_s <= call.first_byte_s <= call.token_times_s[0] <= call.token_times_s[-1]
    assert call.ended_s is not None


def test_an_interim_answer_is_passed_over() -> None:
    assert one(says(head(status=b"103 Early Hints"), sized(WHOLE))).error == ""


def test_a_body_without_a_length_ends_with_its_connection() -> None:
    call = one(says(head(b"content-type: application/json") + WHOLE, close=True))
    assert (call.error, call.finish_reason) == ("", "stop")


@pytest.mark.parametrize(
    ("data", "error", "why"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", STREAM_BROKEN, "no HTTP/1.1 answer"),
        (head(b"content-length: many"), STREAM_BROKEN, "content-length is"),
        (head(b"transfer-encoding: chunked") + b"zz\r\n", STREAM_BROKEN, "no size of a chunk"),
        (b"HTTP/1.1 200 O", CONNECTION_LOST, "before the answer"),
        (sized(WHOLE)[:-5], CONNECTION_LOST, "in the middle of the answer"),
        (chunked(STREAM)[:-5], CONNECTION_LOST, "in the middle of the answer"),
        (b"", CONNECTION_LOST, "before the answer"),
        (chunked(EVENTS), STREAM_BROKEN, "stream ended"),
    ],
)
def test_what_is_no_whole_answer_has_a_name(data: bytes, error: str, why: str) -> None:
    call = one(says(data, close=True), asked())
    assert call.error == error, call.message
    assert why in call.message
    assert call.ended_s is not None


@pytest.mark.parametrize("status", [b"401 Unauthorized", b"503 Service Unavailable"])
def test_a_refusal_is_told_by_the_servers_code(status: bytes) -> None:
    body = b'{"error": {"message": "not today", "type": "x", "param": null, "code": "closed"}}'
    call = one(says(sized(body, status=status)))
    assert (call.error, call.message, call.status) == ("closed", "not today", int(status[:3]))


def test_a_stream_that_is_refused_is_a_refusal_not_a_stream() -> None:
    refusal = head(b"content-type: text/event-stream", b"content-length: 2", status=b"500 Oh") + b"{}"
    call = one(says(refusal), asked())
    assert (call.status, call.token_times_s) == (500, [])
    assert call.error


def test_connections_are_used_again_one_call_after_the_other() -> None:
    server = Server(says(sized(WHOLE)))
    with server.running() as caller:
        for _ in range(3):
            send(caller, asked(stream=False))
        assert (server.accepted, caller.connections, caller.open_calls) == (1, 1, 0)


def test_each_call_has_its_own_where_connections_are_not_kept() -> None:
    server = Server(says(sized(WHOLE)))
    with server.running(keep=False) as caller:
        ended = [send(caller, asked(stream=False))[0] for _ in range(3)]
        assert server.accepted == 3
    assert all(call.connect_s is not None for call in ended)


@pytest.mark.parametrize(
    "serve",
    [
        says(head(b"connection: close", b"content-length: %d" % len(WHOLE)) + WHOLE),
        says(sized(WHOLE) + b"and more"),
        says(b"HTTP/1.0" + sized(WHOLE)[8:]),
    ],
)
def test_a_connection_that_cannot_be_used_again_is_not(serve: Serve) -> None:
    server = Server(serve)
    with server.running() as caller:
        ended = [send(caller, asked(stream=False))[0] for _ in range(2)]
        assert server.accepted == 2
    assert [call.error for call in ended] == ["", ""]


def closes(link: socket.socket) -> None:
    link.shutdown(socket.SHUT_RDWR)


def test_a_call_on_a_connection_that_had_just_gone_is_sent_once_more_and_counted() -> None:
    server = Server(says(sized(WHOLE)), closes, says(sized(WHOLE)))
    with server.running() as caller:
        first, second = (send(caller, asked(stream=False))[0] for _ in range(2))
        assert (caller.retried, server.accepted) == (1, 2)
    assert [call.error for call in (first, second)] == ["", ""]
    assert second.ended_s is not None
    assert second.sent_s < second.ended_s


def test_a_call_that_was_waited_for_and_then_dropped_is_lost_and_not_sent_again() -> None:
    """A service that dies over a request must not look as if it had answered at the second attempt."""

    def dies(link: socket.socket) -> None:
        time.sleep(2 * STALE_S)
        closes(link)

    server = Server(says(sized(WHOLE)), dies, says(sized(WHOLE)))
    with server.running() as caller:
        _, second = (send(caller, asked(stream=False))[0] for _ in range(2))
        assert (caller.retried, len(server.requests)) == (0, 2)
    assert (second.error, "before the answer" in second.message) == (CONNECTION_LOST, True)


def test_a_new_connection_that_is_closed_is_not_stale() -> None:
    server = Server(closes, says(sized(WHOLE)))
    with server.running() as caller:
        (call,) = send(caller, asked(stream=False))
        assert (call.error, caller.retried) == (CONNECTION_LOST, 0)


def test_an_event_counts_from_when_it_came_although_its_chunk_is_not_whole() -> None:
    goes_on = threading.Event()
    whole = chunked(STREAM, size=len(STREAM))  # all events in one chunk
    place = whole.index(b" and") - 30

    def serve(link: socket.socket) -> None:
        link.sendall(whole[:place])
        goes_on.wait(10)
        link.sendall(whole[place:])

    with Server(serve).running() as caller:
        call, ended = asked(), list[Call]()
        caller.begin(call, ended.append)
        until(caller, lambda: len(call.token_times_s) == 1)
        goes_on.set()
        until(caller, lambda: bool(ended))
    assert (call.error, len(call.token_times_s)) == ("", 3)
    assert call.token_times_s[0] < call.token_times_s[1]


def test_bytes_that_nobody_asked_for_end_an_idle_connection() -> None:
    poked = threading.Event()

    def serve(link: socket.socket) -> None:
        link.sendall(sized(WHOLE))
        poked.wait(10)
        link.sendall(b"hello?")

    server = Server(serve, says(sized(WHOLE)))
    with server.running() as caller:
        send(caller, asked(stream=False))
        events = caller.events
        poked.set()
        until(caller, lambda: caller.events > events)
        (second,) = send(caller, asked(stream=False))
        assert (second.error, server.accepted) == ("", 2)


def test_a_request_that_is_larger_than_the_sockets_buffers_is_sent_whole() -> None:
    body = b'{"stream": false, "padding": "' + b"x" * 8_000_000 + b'"}'
    server = Server(says(sized(WHOLE)))
    with server.running() as caller:
        (call,) = send(caller, Call(Ask("m", "chat", body, stream=False)))
    assert call.error == ""
    (request,) = server.requests
    assert request.endswith(body)


def test_a_request_has_what_http_asks_for_and_the_key_only_where_there_is_one() -> None:
    server = Server(says(sized(WHOLE)))
    with server.running() as caller:
        send(
            caller, Call(Ask("m", "chat", b"{}", stream=False, key="sk-1")), Call(Ask("m", "chat", b"{}", stream=False))
        )
    for request in server.requests:
        first, *lines = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")
        named = dict(line.split(": ") for line in lines)
        assert first == "POST /v1/chat/completions HTTP/1.1"
        assert named["Host"].startswith("127.0.0.1:")
        assert (named["Content-Type"], named["Content-Length"]) == ("application/json", "2")
    keys = {b"Authorization: Bearer sk-1" in request for request in server.requests}
    assert keys == {True, False}
    assert sum(b"Authorization" in request for request in server.requests) == 1


def test_a_slow_first_byte_is_not_the_heads_time() -> None:
    goes_on = threading.Event()

    def serve(link: socket.socket) -> None:
        whole = chunked(STREAM)
        before, _, body = whole.partition(b"\r\n\r\n")
        link.sendall(before + b"\r\n\r\n")
        goes_on.wait(10)
        link.sendall(body)

    with Server(serve).running() as caller:
        ended: list[Call] = []
        call = asked()
        caller.begin(call, ended.append)
        until(caller, lambda: call.head_s is not None)
        body_s = call.first_byte_s
        goes_on.set()
        until(caller, lambda: bool(ended))
    assert body_s is None, "the head is not the body"
    assert call.head_s is not None
    assert call.first_byte_s is not None
    assert call.first_byte_s > call.head_s
