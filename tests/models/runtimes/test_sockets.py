"""Sockets that are private, and dead ones that make room."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from models.runtimes.sockets import SocketTaken, answers, bind_private, remove
from tests.models.runtimes.launchers import short_folder


@pytest.fixture
def path():
    with short_folder() as folder:
        yield str(folder / "made" / "x.sock")


def test_only_the_owner_may_connect(path):
    with bind_private(path) as listener:
        listener.listen()
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
        assert stat.S_IMODE(Path(path).parent.stat().st_mode) == 0o700


def test_a_living_listener_keeps_its_path(path):
    with bind_private(path) as first:
        first.listen()
        with pytest.raises(SocketTaken, match="already"):
            bind_private(path)
        assert answers(path)


def test_a_dead_socket_is_replaced(path):
    bind_private(path).close()
    assert not answers(path)
    with bind_private(path) as second:
        second.listen()
        assert answers(path)


def test_a_full_backlog_is_alive(path):
    with bind_private(path) as listener:
        listener.listen(0)
        waiting = []
        for _ in range(5):
            probe = socket.socket(socket.AF_UNIX)
            probe.setblocking(False)
            probe.connect_ex(path)
            waiting.append(probe)
        assert answers(path)
        for probe in waiting:
            probe.close()


def test_a_path_that_the_kernel_would_cut_is_refused(path):
    with pytest.raises(OSError, match="longer than 107 bytes"):
        bind_private(path + "x" * 107)


def test_removing_twice_is_no_error(path):
    bind_private(path).close()
    remove(path)
    remove(path)
    assert not answers(path)
