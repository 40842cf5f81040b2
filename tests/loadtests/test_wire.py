"""Calls that get no good answer say what happened, in the server's words where it had any."""

from __future__ import annotations

import socket
import threading

import pytest

from loadtests.target import Target
from loadtests.wire import CallFailed, NotReachable, Refused, get_json, post_json, refusal
from tests.loadtests.fake_service import FakeService


def test_a_closed_port_is_not_reachable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(NotReachable, match="ConnectionRefusedError"):
            get_json(Target(f"http://127.0.0.1:{free.getsockname()[1]}"), "/v1/models")


def test_a_server_that_hangs_up_is_not_reachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.recv(100_000)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(NotReachable, match="RemoteDisconnected"):
            get_json(Target(f"http://127.0.0.1:{server.getsockname()[1]}"), "/")
        thread.join()


def test_a_silent_server_is_given_up_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(CallFailed, match=r"no answer within 0\.1 s"):
        get_json(Target(f"http://127.0.0.1:{server.getsockname()[1]}"), "/", timeout_s=0.1)


def test_the_admin_key_is_sent_only_where_it_is_asked_for() -> None:
    with FakeService({}).running() as service:
        assert get_json(service.target, "/admin/v1/replicas", admin=True) == {"object": "list", "data": []}
        with pytest.raises(Refused, match="401 invalid_api_key"):
            get_json(service.target, "/admin/v1/replicas")
        with pytest.raises(Refused, match="401 invalid_api_key"):
            post_json(service.target, "/v1/chat/completions", {}, admin=True)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error": {"message": "no\\n room", "code": "full"}}', "503 full: no room"),
        (b'{"error": {"message": "no room", "code": null}}', "503: no room"),
        (b'{"error": "no room"}', '503: {"error": "no room"}'),
        (b"<html>Bad  gateway</html>", "503: <html>Bad gateway</html>"),
        (b"\xff", "503: �"),
        (b"", "503: Service Unavailable"),
    ],
)
def test_a_refusal_is_told_from_whatever_the_server_sent(body: bytes, text: str) -> None:
    assert str(refusal(503, body)) == text


def test_an_answer_that_is_no_json_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            connection.recv(100_000)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(CallFailed, match="not JSON: hello"):
            get_json(Target(f"http://127.0.0.1:{server.getsockname()[1]}"), "/")
        thread.join()
