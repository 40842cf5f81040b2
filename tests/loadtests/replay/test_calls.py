"""Requests that go out when they are due, to a service that the test plays."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from loadtests.replay.__main__ import play
from loadtests.replay.calibration import measure
from loadtests.replay.calls import ask
from loadtests.replay.minute import Minute
from loadtests.target import Target
from loadtests.wire import CallFailed
from packers.sim import Trace


class Gateway:
    """``slow_s``: of each answer. ``refuse``: models that get a 503. Each model's first call waits for a start."""

    def __init__(self) -> None:
        self.slow_s = 0.0
        self.refuse: set[str] = set()
        self.asked: list[tuple[float, str, int]] = []
        self.started: set[str] = set()
        self.url = ""


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    played = Gateway()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            model = body["model"]
            played.asked.append((time.monotonic(), model, body["max_tokens"]))
            time.sleep(played.slow_s)
            status = 503 if model in played.refuse else 200
            text = b'{"error": {"message": "no room", "code": "no_room"}}' if status == 503 else b"{}"
            wake_ms = 0 if model in played.started else 250.0
            played.started.add(model)
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.send_header("server-timing", f"auth;dur=0.01, queue;dur=2.00, wake;dur={wake_ms}, engine-ttfb;dur=9.1")
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    played.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield played
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_what_the_gateway_says_of_an_answer_is_what_counts(gateway: Gateway) -> None:
    target = Target(gateway.url, "key")
    first, second = ask(target, "m", 3), ask(target, "m", 3)
    assert (first.wait_s, first.started_s, first.delayed) == (0.252, 0.25, True)
    assert (second.wait_s, second.delayed, second.error) == (0.002, False, "")
    gateway.refuse.add("m")
    assert ask(target, "m", 3).error == "503 no_room: no room"
    assert "Connection refused" in ask(Target("http://127.0.0.1:1", "key"), "m", 3).error


def test_slow_answers_hold_up_nobody_else(gateway: Gateway) -> None:
    gateway.slow_s = 0.3
    trace = Trace.of(["a", "b"], [0.0, 0.05, 0.1], [0, 1, 0], output_tokens=[4, 5, 6])
    played = play(Target(gateway.url, "key"), Minute("by hand", trace, 1.0))
    assert sorted(answer.at_s for answer in played.answers) == [0.0, 0.05, 0.1]
    assert [tokens for _, _, tokens in sorted(gateway.asked)] == [4, 5, 6]
    assert sum(answer.delayed for answer in played.answers) == 2 or len(gateway.started) == 2
    assert 0.3 <= played.ended_s - played.began_s < 60


def test_a_service_that_somebody_else_uses_is_not_measured(gateway: Gateway) -> None:
    """Its model is ready although it was put down."""

    class Idle:
        def stop(self, model: str) -> None:
            """It stays as it is."""

        def put_to_sleep(self, model: str) -> None:
            """Likewise."""

    with pytest.raises(CallFailed, match="m was ready although it had been put down"):
        measure(Target(gateway.url, "key"), Idle(), ["m"], 1)  # type: ignore[arg-type]
    gateway.refuse.add("m")
    with pytest.raises(CallFailed, match="m could not be measured: 503 no_room"):
        measure(Target(gateway.url, "key"), Idle(), ["m"], 1)  # type: ignore[arg-type]
