"""Sockets on one port: several of ours, none of anybody else's."""

from __future__ import annotations

import errno
import socket

import pytest

from gateway.listening import RETRY_EVERY_S, listen, listen_together


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


def close(*listeners: socket.socket) -> None:
    for listener in listeners:
        listener.close()


def test_several_on_a_port_that_the_system_chose() -> None:
    listeners = listen_together("127.0.0.1", 0, 4)
    assert len({port_of(each) for each in listeners}) == 1
    assert not any(each.getblocking() for each in listeners)
    with socket.create_connection(("127.0.0.1", port_of(listeners[0])), 5):
        pass
    close(*listeners)


def test_ipv6() -> None:
    listeners = listen_together("::1", 0, 2)
    assert all(each.family == socket.AF_INET6 for each in listeners)
    close(*listeners)


@pytest.mark.parametrize("shares", [True, False])
def test_a_port_in_use_is_refused_even_by_those_who_would_share(shares: bool) -> None:
    theirs = listen("127.0.0.1", 0, reuse_port=shares)
    with pytest.raises(OSError, match="in use") as refused:
        listen_together("127.0.0.1", port_of(theirs), 2)
    assert refused.value.errno == errno.EADDRINUSE
    close(theirs)


def test_a_port_that_is_about_to_be_left_is_waited_for() -> None:
    theirs = listen("127.0.0.1", 0, reuse_port=True)
    port, waits = port_of(theirs), []

    def pause(wait_s: float) -> None:
        waits.append(wait_s)
        if len(waits) == 3:
            theirs.close()

    ours = listen_together("127.0.0.1", port, 2, patience_s=1.0, pause=pause, now=lambda: sum(waits))
    assert waits == [RETRY_EVERY_S] * 3
    close(*ours)


def test_patience_ends() -> None:
    theirs, waits = listen("127.0.0.1", 0), [0.0]
    with pytest.raises(OSError, match="in use"):
        listen_together("127.0.0.1", port_of(theirs), 1, 0.2, waits.append, lambda: sum(waits))
    assert sum(waits) == pytest.approx(0.2)
    close(theirs)


def test_an_address_that_is_not_ours_is_refused_at_once() -> None:
    with pytest.raises(OSError, match="assign"):
        listen_together("198.51.100.7", 0, 2, patience_s=60.0, pause=lambda wait_s: pytest.fail("why wait?"))
