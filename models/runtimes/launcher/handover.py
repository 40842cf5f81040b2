"""Hands an order, and the connection that it came on, to another process of this machine over a unix socket.

The order travels as a file in memory: whatever its size, handing over is one small message that never has to wait for
its reader.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
from dataclasses import dataclass

import msgspec

from models.runtimes.protocol import EngineOrder
from models.runtimes.sockets import receive_with, send_with

GREETED = b"g"

_HEAD = struct.Struct("<d")  # received_s


@dataclass(frozen=True)
class Handed:
    """An order, who sent it, and when the launcher read it (seconds on the monotonic clock, which processes share)."""

    order: EngineOrder
    connection: socket.socket
    received_s: float


def hand_over(channel: socket.socket, order: EngineOrder, connection: socket.socket, received_s: float) -> None:
    """Give both to whoever reads ``channel``. Raises OSError when nobody can: then the order is still the caller's.

    The caller keeps its own descriptor of the connection and closes it once the other side has taken over: until then
    it can still answer, or hand the order to somebody else.
    """
    memory = os.memfd_create("order", os.MFD_CLOEXEC)
    try:
        os.write(memory, msgspec.json.encode(order))
        # A reader that has stopped reading must not stop us.
        send_with(channel, _HEAD.pack(received_s), (memory, connection.fileno()), socket.MSG_DONTWAIT)
    finally:
        os.close(memory)


def receive(channel: socket.socket) -> Handed | None:
    """Wait for an order; None when the other side has hung up. Raises OSError, ValueError for something else."""
    head, descriptors = receive_with(channel, _HEAD.size, 2)
    if not head:
        return None
    if len(head) != _HEAD.size or len(descriptors) != 2:
        for descriptor in descriptors:
            os.close(descriptor)
        raise ValueError("what came is not an order")
    memory, connection = descriptors
    try:
        with mmap.mmap(memory, 0, access=mmap.ACCESS_READ) as line:
            order = msgspec.json.decode(line, type=EngineOrder)
    except BaseException:
        os.close(connection)
        raise
    finally:
        os.close(memory)
    return Handed(order, socket.socket(fileno=connection), _HEAD.unpack(head)[0])


def say_greeted(channel: socket.socket) -> None:
    """The engine has answered on its connection: from now on it speaks for itself."""
    try:
        channel.send(GREETED, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError:
        pass  # whoever handed over is gone; the engine lives by its lease
    finally:
        channel.close()
