"""A client that goes away frees its place in the engine: streamed or not, running or queued, through the gateway or
straight at the engine's socket (promise R10: within 1 s)."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.service import Service, until

MODEL = "one-at-a-time"
PROMISED_S = 1.0
PATIENCE_S = 2.5  # what is asked for would take the engine longer by itself


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("engine")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


class Engine:
    """The only replica of the model, asked for itself or through the gateway."""

    def __init__(self, service: Service, through_gateway: bool) -> None:
        answer = service.chat(MODEL)
        assert answer.status_code == 200, answer.text
        (replica,) = service.replicas(MODEL)
        self._service = service
        self._through_gateway = through_gateway
        self._socket = str(replica["endpoint"]).removeprefix("unix:")

    def _connection(self) -> http.client.HTTPConnection:
        if self._through_gateway:
            return http.client.HTTPConnection("127.0.0.1", self._service.port)
        return UnixConnection(self._socket)

    @contextmanager
    def asked(self, stream: bool) -> Iterator[None]:
        """Somebody asks for a long answer; in the end they hang up without having read it."""
        connection = self._connection()
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": f"go on {time.monotonic()}"}],
            "max_tokens": 900,
            "ignore_eos": True,
            "stream": stream,
        }
        headers = {"content-type": "application/json", "authorization": f"Bearer {self._service.api_key}"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        try:
            yield
        finally:
            connection.close()

    def count(self, what: str) -> float:
        """Requests that the engine itself says it has: ``running`` or ``waiting``."""
        return metric(UnixConnection(self._socket), f"vllm:num_requests_{what}{{")

    def queued(self) -> float:
        """Where they wait: the gateway holds back what the engine has no place for."""
        if not self._through_gateway:
            return self.count("waiting")
        return metric(self._connection(), f'roundhouse_held_requests{{model="{MODEL}"}}')


def metric(connection: http.client.HTTPConnection, begins: str) -> float:
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(begins))


def until_so(condition: Callable[[], bool]) -> float:
    """Seconds until it was so."""
    began_s = time.monotonic()
    until(condition, timeout_s=PATIENCE_S, every_s=0.02)
    return time.monotonic() - began_s


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("through_gateway", [True, False], ids=["gateway", "socket"])
def test_who_leaves_frees_a_place_in_the_engine(service: Service, stream: bool, through_gateway: bool) -> None:
    engine = Engine(service, through_gateway)
    with engine.asked(stream):
        until_so(lambda: engine.count("running") == 1)
        with engine.asked(stream):
            until_so(lambda: engine.queued() == 1)
        queued_s = until_so(lambda: engine.queued() == 0)
        assert engine.count("running") == 1, "the other one goes on"
    running_s = until_so(lambda: engine.count("running") == 0)
    print(f"free after {running_s:.2f} s running, {queued_s:.2f} s queued; promised: {PROMISED_S:g} s")
