"""TLS over sockets that somebody else reads and writes."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.client.address import Address
from loadtests.client.tls import Tls
from tests.gateway.certificates import ONE, ONE_KEY
from tests.loadtests.client.test_caller import asked, calling, send
from tests.loadtests.client.test_connection import WHOLE, read_request, sized

TRUSTING = ssl.create_default_context(cadata=ONE)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    folder: Path = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_text(ONE)
    (folder / "key.pem").write_text(ONE_KEY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


class Server:
    """The other side, in memory: what it read so far is ``heard``."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._in, self.out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self.out, server_side=True)
        self.heard = b""
        self._shaken = False

    def feed(self, data: bytes) -> bytes:
        self._in.write(data)
        try:
            if not self._shaken:
                self.tls.do_handshake()
                self._shaken = True
            while piece := self.tls.read(65536):
                self.heard += piece
        except ssl.SSLWantReadError:
            pass
        return self.out.read()


def exchange(ours: Tls, server: Server, data: bytes = b"", size: int = 1 << 20) -> bytes:
    """Until neither has anything to say: what came to us."""
    found = b""
    while data or ours.outgoing:
        for at in range(0, len(data), size):
            found += ours.unwrap(data[at : at + size])
        sending, ours.outgoing = ours.outgoing, b""
        data = server.feed(sending)
    return found


@settings(max_examples=25, deadline=None)
@given(
    question=st.binary(min_size=1, max_size=40_000),
    reply=st.binary(min_size=1, max_size=40_000),
    size=st.integers(1, 3000),
)
def test_any_bytes_arrive_in_pieces_of_any_size(
    theirs: ssl.SSLContext, question: bytes, reply: bytes, size: int
) -> None:
    ours, server = Tls(TRUSTING, "127.0.0.1"), Server(theirs)
    left = ours.wrap(question)
    assert (left, ours.ready) == (question, False), "nothing is said before the two know each other"
    exchange(ours, server, size=size)
    assert ours.ready
    assert ours.wrap(left) == b""
    exchange(ours, server)
    assert server.heard == question
    server.tls.write(reply)
    assert exchange(ours, server, server.out.read(), size) == reply


def test_whoever_is_not_trusted_is_told_nothing(theirs: ssl.SSLContext) -> None:
    ours, server = Tls(ssl.create_default_context(), "127.0.0.1"), Server(theirs)
    left = ours.wrap(b"secret")
    with pytest.raises(ssl.SSLCertVerificationError):
        exchange(ours, server)
    assert (left, server.heard) == (b"secret", b"")


def test_the_end_of_the_other_side_is_no_bytes(theirs: ssl.SSLContext) -> None:
    ours, server = Tls(TRUSTING, "127.0.0.1"), Server(theirs)
    ours.wrap(b"")
    exchange(ours, server)
    with pytest.raises(ssl.SSLWantReadError):
        server.tls.unwrap()
    assert ours.unwrap(server.out.read()) == b""


def test_until_the_two_know_each_other_is_time_of_connecting(theirs: ssl.SSLContext) -> None:
    slow_s = 0.1

    def serve(listener: socket.socket) -> None:
        link, _ = listener.accept()
        time.sleep(slow_s)
        with theirs.wrap_socket(link, server_side=True) as shaken:
            for _ in range(2):
                read_request(shaken)
                shaken.sendall(sized(WHOLE))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        with calling(Address(socket.AF_INET, listener.getsockname(), "127.0.0.1", TRUSTING, "127.0.0.1")) as caller:
            first, second = (send(caller, asked(stream=False))[0] for _ in range(2))
        thread.join()
    assert [call.error for call in (first, second)] == ["", ""]
    assert first.connect_s is not None
    assert first.connect_s >= slow_s
    assert second.connect_s is None
