"""The engine that costs nothing still speaks HTTP: whole and split requests, chunks, streams, callers that leave."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

from loadtests.gateway.fake_engine import Window, fake_engine
from loadtests.gateway.native import Programs
from loadtests.gateway.ports import free_ports
from loadtests.gateway.traffic import BRIEF, BURST, PACED, PLAIN, chat, request
from tests.loadtests.gateway.conftest import EVERYWHERE

SOON_S = 10.0


def exchange(port: int, *pieces: bytes, until: bytes) -> bytes:
    """What comes back until something is seen."""
    with socket.create_connection(("127.0.0.1", port), timeout=SOON_S) as caller:
        for piece in pieces:
            caller.sendall(piece)
        seen = b""
        while until not in seen:
            got = caller.recv(65536)
            assert got, f"closed after {seen[-200:]!r}"
            seen += got
    return seen


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


PLAIN_REQUEST = request(chat(PLAIN), "key")
LAST = b'"prompt_logprobs":null}'


def test_a_plain_answer_is_a_chat_completion_of_about_600_bytes(engine: int | None) -> None:
    if engine is None:
        return
    body = body_of(exchange(engine, PLAIN_REQUEST, until=LAST))
    assert 580 <= len(body) <= 660
    assert json.loads(body)["usage"]["total_tokens"] == 72


def test_a_request_may_come_byte_by_byte(engine: int | None) -> None:
    if engine is None:
        return
    pieces = [PLAIN_REQUEST[index : index + 1] for index in range(len(PLAIN_REQUEST))]
    assert exchange(engine, *pieces, until=LAST).startswith(b"HTTP/1.1 200 OK\r\n")


def test_requests_may_come_in_one_piece(engine: int | None) -> None:
    if engine is None:
        return
    seen = exchange(engine, PLAIN_REQUEST * 3 + b"GET /v1/models HTTP/1.1\r\n\r\n", until=b'"object":"list"')
    assert seen.count(LAST) == 3


def test_bodies_may_be_chunked(engine: int | None) -> None:
    if engine is None:
        return
    body = chat(BRIEF, stream=True)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    seen = exchange(engine, head, b"%x\r\n%s\r\n" % (len(body), body), b"0\r\n\r\n", until=b"\r\n0\r\n\r\n")
    assert seen.count(b"data: ") == 3


def test_a_large_body_is_taken(engine: int | None) -> None:
    if engine is None:
        return
    large = request(chat(PLAIN, question="w" * 300_000), "key")
    assert exchange(engine, large, until=LAST)


def test_a_stream_has_64_tokens_a_usage_event_and_an_end(engine: int | None) -> None:
    if engine is None:
        return
    seen = exchange(engine, request(chat(BURST, stream=True), "key"), until=b"\r\n0\r\n\r\n")
    payloads = [line[6:] for line in body_of(seen).split(b"\n") if line.startswith(b"data: ")]
    assert payloads[-1] == b"[DONE]"
    events = [json.loads(payload) for payload in payloads[:-1]]
    assert [len(event["choices"]) for event in events] == [1] * 64 + [0]
    assert events[-1]["usage"]["completion_tokens"] == 64


def test_a_caller_that_leaves_is_noticed_with_the_time(engine: int | None) -> None:
    if engine is None:
        return
    with Window(engine) as window:
        before = window.look()
        began_ns = time.monotonic_ns()
        exchange(engine, request(chat(PACED, stream=True), "key"), until=b"tok03")
        give_up_s = time.monotonic() + SOON_S
        while (after := window.look()).aborted == before.aborted:
            assert time.monotonic() < give_up_s
        assert after.streams == before.streams + 1
        assert began_ns < after.last_abort_ns < time.monotonic_ns()
        assert after.open_streams == before.open_streams


def test_it_listens_on_several_addresses_and_on_unix_sockets(programs: Programs | None, tmp_path: Path) -> None:
    if programs is None:
        return
    ports = free_ports(2)
    path = tmp_path / "s"
    with (
        fake_engine(programs.engine, ports, EVERYWHERE, tmp_path / "log"),
        fake_engine(programs.engine, [f"unix:{path}"], EVERYWHERE, tmp_path / "unix.log"),
    ):
        for port in ports:
            assert exchange(port, PLAIN_REQUEST, until=LAST)
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(path))
            caller.sendall(PLAIN_REQUEST)
            assert caller.recv(65536).startswith(b"HTTP/1.1 200")
