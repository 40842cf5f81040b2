"""The door: who knows the secret gets in and is told what is in its way; who does not learns nothing and is told so."""

from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from gateway.service.door.client import DoorClient, DoorError
from gateway.service.door.register import HEARD_S, Register
from gateway.service.door.server import Door
from gateway.service.door.words import (
    HELLO,
    NONCE_HEADER,
    PROOF_HEADER,
    Hello,
    Versions,
    Welcome,
    own_versions,
    request_proof,
)
from gateway.service.ports import free_port

KEY = "k" * 64
VERSIONS = Versions(roundhouse="0.1.0", ray="2.60.0", python="3.11.7")
A = Hello(name="a", identity="id-a", address="10.0.0.2", versions=VERSIONS)
Opened = Callable[[Door], int]


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def door(tmp_path: Path, clock: Clock) -> Door:
    names = Register(tmp_path / "nodes.json", "head", "10.0.0.1", 0.0)
    return Door(
        KEY, "10.0.0.1", VERSIONS, names, lambda: "session_1", lambda: True, url="http://10.0.0.1:8000", clock=clock
    )


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Serves on a loop of its own, for callers that block; the port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    runners: list[web.AppRunner] = []

    def on_loop(door: Door) -> int:
        runner, port = web.AppRunner(door.app()), free_port("127.0.0.1")
        runners.append(runner)

        async def serve() -> None:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", port).start()

        asyncio.run_coroutine_threadsafe(serve(), loop).result(10)
        return port

    yield on_loop
    for runner in runners:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def caller(port: int, key: str = KEY) -> DoorClient:
    return DoorClient("127.0.0.1", port, key)


def code(client: DoorClient, hello: Hello) -> str:
    with pytest.raises(DoorError) as refused:
        client.hello(hello)
    assert str(refused.value)
    assert refused.value.cure
    return refused.value.code


def test_a_machine_that_joins_is_told_what_it_needs_to_know(door: Door, opened: Opened) -> None:
    at = caller(opened(door))
    told = at.hello(msgspec.structs.replace(A, joining=True))
    assert told == Welcome(
        head="10.0.0.1",
        session="session_1",
        seen_as="127.0.0.1",
        own_redis=False,
        simulated=True,
        url="http://10.0.0.1:8000",
    )
    assert at.hello(A) == Welcome(head="10.0.0.1", session="session_1", seen_as="127.0.0.1")


def test_asking_to_join_does_not_take_a_name(door: Door, opened: Opened) -> None:
    at = caller(opened(door))
    at.hello(msgspec.structs.replace(A, joining=True))
    at.hello(msgspec.structs.replace(A, joining=True, identity="id-b"))
    at.hello(msgspec.structs.replace(A, identity="id-b"))
    assert code(at, msgspec.structs.replace(A, joining=True)) == "name_taken"


def test_a_name_is_free_again_when_its_machine_left_or_fell_silent(door: Door, opened: Opened, clock: Clock) -> None:
    at = caller(opened(door))
    other = msgspec.structs.replace(A, identity="id-b", address="10.0.0.3")
    at.hello(A)
    assert code(at, other) == "name_taken"
    at.leave(A)
    at.hello(other)
    assert code(at, A) == "name_taken"
    clock.now_s += HEARD_S
    at.hello(A)


@pytest.mark.parametrize(("field", "shown"), [("roundhouse", "Roundhouse"), ("ray", "Ray"), ("python", "Python")])
def test_another_version_is_refused_and_both_are_named(door: Door, opened: Opened, field: str, shown: str) -> None:
    other = msgspec.structs.replace(VERSIONS, **{field: "9.9"})
    with pytest.raises(DoorError, match=rf"the head runs {shown} .*, this machine 9\.9") as refused:
        caller(opened(door)).hello(msgspec.structs.replace(A, versions=other))
    assert (refused.value.code, "install" in refused.value.cure) == ("version_mismatch", True)


def test_a_name_that_no_node_may_have_is_refused(door: Door, opened: Opened) -> None:
    assert code(caller(opened(door)), msgspec.structs.replace(A, name="a b")) == "invalid_request"


def test_who_has_another_secret_is_told_so_and_nothing_else(door: Door, opened: Opened) -> None:
    port = opened(door)
    assert code(caller(port, "x" * 64), A) == "wrong_secret"
    caller(port).hello(msgspec.structs.replace(A, identity="id-b"))  # the name has not been given to that one


def test_a_request_that_was_heard_on_the_way_cannot_be_changed(door: Door, opened: Opened) -> None:
    body = msgspec.json.encode(A)
    headers = {NONCE_HEADER: "n", PROOF_HEADER: request_proof(KEY, "n", HELLO, body)}
    connection = http.client.HTTPConnection("127.0.0.1", opened(door), timeout=5)
    statuses = []
    for sent, given in (
        (body, headers),
        (body.replace(b"10.0.0.2", b"10.0.0.6"), headers),
        (body, {}),
        (b"x" * 70_000, {}),
    ):
        connection.request("POST", HELLO, sent, given)
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
    connection.close()
    assert statuses == [200, 403, 403, 413]


def test_a_head_that_does_not_know_the_secret_is_not_believed(opened: Opened, door: Door) -> None:
    # It says yes to everybody, without being able to prove that it may.
    class Impostor:
        def app(self) -> web.Application:
            async def yes(request: web.Request) -> web.Response:
                told = Welcome(head="10.0.0.1", session="s", seen_as="x")
                return web.Response(body=msgspec.json.encode(told), headers={PROOF_HEADER: "0" * 64})

            app = web.Application()
            app.router.add_post(HELLO, yes)
            return app

    assert code(caller(opened(Impostor())), A) == "no_door"  # type: ignore[arg-type]


def test_what_listens_there_may_be_something_else_altogether(opened: Opened) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            connection, _ = other.accept()
            connection.recv(1 << 16)  # what is closed unread is reset, and the line might be lost with it
            connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        assert code(caller(other.getsockname()[1]), A) == "no_door"
        thread.join()


def test_a_head_that_cannot_be_reached(door: Door) -> None:
    client = caller(free_port("127.0.0.1"))
    with pytest.raises(DoorError, match="no head answers at 127") as refused:
        client.hello(A)
    assert (refused.value.code, "docs/cluster.md" in refused.value.cure) == ("unreachable", True)


def test_a_configuration_that_cannot_be_read_is_no_reason_to_turn_anybody_away(door: Door, opened: Opened) -> None:
    client = caller(opened(replace(door, simulated=lambda: None)))
    assert client.hello(msgspec.structs.replace(A, joining=True)).simulated is None


def test_our_own_versions_are_known() -> None:
    found = own_versions()
    assert all((found.roundhouse, found.ray, found.python))


@pytest.mark.parametrize("header", [NONCE_HEADER, PROOF_HEADER])
def test_headers_that_are_no_text_open_nothing(door: Door, opened: Opened, header: str) -> None:
    headers: dict[str, str | bytes] = {NONCE_HEADER: "n", PROOF_HEADER: "0" * 64, header: b"\xff\xfe"}
    connection = http.client.HTTPConnection("127.0.0.1", opened(door), timeout=5)
    connection.request("POST", HELLO, msgspec.json.encode(A), headers)
    assert connection.getresponse().status == 403
    connection.close()


def test_a_refusal_that_is_no_text_is_none_of_a_head(opened: Opened) -> None:
    class Other:
        def app(self) -> web.Application:
            async def no(request: web.Request) -> web.Response:
                return web.Response(status=403, body=b'{"code": "\xff"}')

            app = web.Application()
            app.router.add_post(HELLO, no)
            return app

    assert code(caller(opened(Other())), A) == "no_door"  # type: ignore[arg-type]
