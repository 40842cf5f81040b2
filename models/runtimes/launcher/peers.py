"""Who is connected to the launcher, and what they have ordered."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, field

from models.runtimes import wire
from models.runtimes.protocol import EngineOrder, EngineStatus

READ_BYTES = 65536


@dataclass(eq=False)
class Peer:
    """Somebody who is connected; ``pending`` is the line that has not ended yet."""

    connection: socket.socket
    pending: bytearray = field(default_factory=bytearray)

    def next_line(self) -> bytes | None:
        """A whole line, b"" when the peer hung up, None when there is none yet. Raises ValueError for an endless one.

        Takes nothing beyond the line: what follows an order belongs to the engine. Raises BlockingIOError, OSError.
        """
        peeked = self.connection.recv(READ_BYTES, socket.MSG_PEEK)
        end = peeked.find(b"\n") + 1
        self.pending += self.connection.recv(end or len(peeked))
        if not peeked:
            return b""
        if len(self.pending) > wire.LINE_LIMIT_BYTES:
            raise ValueError("the line is too long")
        return bytes(self.pending) if end else None

    def hung_up(self) -> bool:
        try:
            return self.connection.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def say(self, message: wire.Message) -> None:
        with contextlib.suppress(OSError):  # it hung up or reads nothing
            self.connection.send(wire.encode(message))


@dataclass(eq=False)
class Ordered:
    """An order, who sent it, and when it was read (monotonic seconds). ``lost``: children that died with it."""

    order: EngineOrder
    peer: Peer
    received_s: float
    lost: int = 0

    def decline(self, why: str) -> None:
        """Tell the peer in the engine's place, and be done with it."""
        self.peer.say(EngineStatus(state="failed", pid=0, order=self.order, error=why))
        self.peer.connection.close()
