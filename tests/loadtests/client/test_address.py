"""Where connections go, looked up once."""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path

import pytest

from loadtests.client.address import find_address
from loadtests.target import Target, TargetError


def test_a_port_of_this_machine() -> None:
    found = find_address(Target("http://127.0.0.1:8000"))
    assert (found.family, found.at, found.host) == (socket.AF_INET, ("127.0.0.1", 8000), "127.0.0.1:8000")
    assert found.tls is None


def test_an_address_of_ipv6_stands_in_brackets() -> None:
    found = find_address(Target("http://[::1]:8000"))
    assert (found.family, found.at[:2], found.host) == (socket.AF_INET6, ("::1", 8000), "[::1]:8000")


def test_https_checks_who_answers() -> None:
    found = find_address(Target("https://127.0.0.1"))
    assert (found.at, found.host, found.server_name) == (("127.0.0.1", 443), "127.0.0.1:443", "127.0.0.1")
    assert found.tls is not None
    assert found.tls.verify_mode == ssl.CERT_REQUIRED


def test_a_unix_socket(tmp_path: Path) -> None:
    found = find_address(Target(f"unix:{tmp_path}/s"))
    assert (found.family, found.at, found.host) == (socket.AF_UNIX, f"{tmp_path}/s", "localhost")


def test_of_several_addresses_the_one_that_listens_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """``localhost`` may be ::1 first, where nobody is."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        places = [deaf.getsockname(), listener.getsockname()]
        known = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: known)
        assert find_address(Target("http://localhost:1")).at == places[1]
        known.pop()
        assert find_address(Target("http://localhost:1")).at == places[0], "there is but one"


def test_where_nobody_listens_the_first_address_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as one, socket.socket() as other:
        places = []
        for deaf in (one, other):
            deaf.bind(("127.0.0.1", 0))
            places.append(deaf.getsockname())
        known = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: known)
        assert find_address(Target("http://localhost:1")).at == places[0]


def test_a_name_that_leads_nowhere_is_told() -> None:
    with pytest.raises(TargetError, match=r"no-such-host\.invalid has no address"):
        find_address(Target("http://no-such-host.invalid"))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "unix:/tmp/none"])
def test_its_sockets_never_wait_and_are_not_inherited(url: str) -> None:
    link = find_address(Target(url)).open()
    try:
        assert link.gettimeout() == 0
        assert not os.get_inheritable(link.fileno())
        if not url.startswith("unix"):
            assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    finally:
        link.close()
