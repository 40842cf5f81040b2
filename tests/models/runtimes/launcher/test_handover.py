"""An order and its connection cross from one process to another."""

from __future__ import annotations

import os
import socket

import msgspec
import pytest

from models.runtimes.launcher.handover import GREETED, hand_over, receive, say_greeted
from tests.models.runtimes.orders import order


@pytest.fixture(params=[socket.SOCK_SEQPACKET, socket.SOCK_STREAM], ids=["packets", "stream"])
def channel(request):
    ours, theirs = socket.socketpair(socket.AF_UNIX, request.param)
    with ours, theirs:
        yield ours, theirs


def open_descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("length", [1, 900_000])
def test_both_arrive_whatever_the_orders_size(channel, tmp_path, length):
    ours, theirs = channel
    client, connection = socket.socketpair()
    ordered = order(tmp_path, note="x" * length)
    hand_over(ours, ordered, connection, 12.5)
    handed = receive(theirs)
    assert handed is not None
    assert (handed.order, handed.received_s) == (ordered, 12.5)
    handed.connection.send(b"hello")
    assert client.recv(5) == b"hello"
    assert not os.get_inheritable(handed.connection.fileno())
    connection.close()
    handed.connection.send(b"still")
    assert client.recv(5) == b"still"
    handed.connection.close()
    assert client.recv(1) == b""


def test_nothing_stays_open_on_either_side(channel, tmp_path):
    ours, theirs = channel
    before = open_descriptors()
    for _ in range(20):
        client, connection = socket.socketpair()
        hand_over(ours, order(tmp_path), connection, 0.0)
        handed = receive(theirs)
        assert handed is not None
        for end in (client, connection, handed.connection):
            end.close()
    assert open_descriptors() == before


def test_a_reader_that_is_gone_leaves_the_order_with_the_sender(channel, tmp_path):
    ours, theirs = channel
    theirs.close()
    client, connection = socket.socketpair()
    with pytest.raises(ConnectionError):
        hand_over(ours, order(tmp_path), connection, 0.0)
    connection.send(b"not this one")
    assert client.recv(20) == b"not this one"
    for end in (client, connection):
        end.close()


def test_a_reader_that_reads_nothing_does_not_hold_the_sender_up(channel, tmp_path):
    ours, _ = channel
    client, connection = socket.socketpair()

    def many():
        for _ in range(100_000):
            hand_over(ours, order(tmp_path), connection, 0.0)

    with pytest.raises(BlockingIOError):
        many()
    client.close()
    connection.close()


def test_a_sender_that_hangs_up_is_no_order(channel):
    ours, theirs = channel
    ours.close()
    assert receive(theirs) is None


def test_something_else_is_refused_and_its_descriptors_are_closed(channel):
    ours, theirs = channel
    before = open_descriptors()
    socket.send_fds(ours, [b"12345678"], [0])
    with pytest.raises(ValueError, match="not an order"):
        receive(theirs)
    assert open_descriptors() == before


def test_an_order_that_cannot_be_read_is_refused_and_its_connection_closed(channel, tmp_path, monkeypatch):
    ours, theirs = channel
    client, connection = socket.socketpair()
    monkeypatch.setattr(msgspec.json, "encode", lambda _order: b"{}")
    hand_over(ours, order(tmp_path), connection, 0.0)
    connection.close()
    with pytest.raises(msgspec.ValidationError):
        receive(theirs)
    assert client.recv(1) == b""
    client.close()


def test_the_greeting_is_the_last_that_the_child_says(channel):
    ours, theirs = channel
    say_greeted(theirs)
    assert ours.recv(10) == GREETED
    assert ours.recv(10) == b""


def test_a_launcher_that_is_gone_is_greeted_in_vain(channel):
    ours, theirs = channel
    ours.close()
    say_greeted(theirs)
    assert theirs.fileno() == -1
