from __future__ import annotations

import os
import socket
import sys

import pytest

from gateway.service.ports import PortInUse, check_free, free_port, owner_of
from tests.gateway.service.conftest import Started

LISTEN = """
import socket, sys, time
server = socket.create_server((sys.argv[1], 0), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
print(server.getsockname()[1], flush=True)
time.sleep(600)
"""


def test_a_free_port_is_free() -> None:
    check_free("127.0.0.1", free_port("127.0.0.1"))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_whoever_has_the_port_is_named(start: Started, host: str) -> None:
    if host == "::1" and not os.path.exists("/proc/net/if_inet6"):
        host = "127.0.0.1"
    process = start(sys.executable, "-c", LISTEN, host, stdout=-1)
    assert process.stdout is not None
    port = int(process.stdout.readline())
    assert owner_of(port) == process.pid
    with pytest.raises(PortInUse, match=f"port {port} on {host} is in use by pid {process.pid}: .*; choose another"):
        check_free(host, port)


def test_another_roundhouse_is_named_with_its_end(start: Started) -> None:
    env = {**os.environ, "ROUNDHOUSE_HOME": "/srv/other"}
    process = start(sys.executable, "-c", LISTEN, "127.0.0.1", stdout=-1, env=env)
    assert process.stdout is not None
    with pytest.raises(PortInUse, match=r"by the Roundhouse in /srv/other .*roundhouse down --home /srv/other"):
        check_free("127.0.0.1", int(process.stdout.readline()))


def test_a_port_that_was_just_given_up_is_free() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    client = socket.create_connection(("127.0.0.1", port))
    accepted, _ = server.accept()
    accepted.close()  # this side goes first, and lingers in TIME_WAIT
    client.close()
    server.close()
    check_free("127.0.0.1", port)


def test_nobody_owns_a_free_port() -> None:
    assert owner_of(free_port("127.0.0.1")) is None


def test_an_address_of_another_machine() -> None:
    with pytest.raises(OSError, match="assign requested address"):
        check_free("198.51.100.7", 8000)
