"""Children forked ahead, as the launcher sees them: idle ones, and which of them to give the next order."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from models.runtimes.proc import private_bytes

log = logging.getLogger("roundhouse.launcher")

SETTLE_S = 0.3  # after which an idle one's memory grows no more


@dataclass(eq=False)
class Spare:
    """A child without an order. Its channel is readable when it says something, and when it is gone."""

    pid: int
    generation: int
    channel: socket.socket
    since_s: float = field(default_factory=time.monotonic)
    _private_bytes: int = 0

    def __post_init__(self) -> None:
        self.channel.setblocking(False)

    def private_bytes(self) -> int:
        """Measured once: walking its page tables takes the kernel some milliseconds."""
        if not self._private_bytes and time.monotonic() - self.since_s > SETTLE_S:
            self._private_bytes = private_bytes(self.pid)
        return self._private_bytes

    def watch(self, action: Callable[[], None]) -> None:
        """Call ``action`` whenever the channel is readable; replaces an earlier one."""
        asyncio.get_running_loop().add_reader(self.channel, action)

    def heard(self) -> bytes | None:
        """What it said; b"" when it is gone, None when it says nothing."""
        try:
            return self.channel.recv(1)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def let_go(self) -> None:
        """Hang up. One that has no order ends."""
        if self.channel.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self.channel)
            self.channel.close()


class Spares:
    """The idle ones. ``on_death`` is called when one of them has died without being asked to."""

    def __init__(self, on_death: Callable[[], None]) -> None:
        self._idle: list[Spare] = []
        self._on_death = on_death

    def __len__(self) -> int:
        return len(self._idle)

    def of(self, generation: int) -> int:
        return sum(spare.generation == generation for spare in self._idle)

    def add(self, spare: Spare) -> None:
        spare.watch(lambda: self._died(spare))
        self._idle.append(spare)

    def take(self) -> Spare | None:
        """Of the latest generation, the one that has waited longest, and so has surely settled."""
        if not self._idle:
            return None
        taken = min(self._idle, key=lambda spare: (-spare.generation, spare.since_s))
        self._idle.remove(taken)
        return taken

    def dismiss_surplus(self, most: int) -> None:
        """Let those of earlier generations go first, until no more than ``most`` are left."""
        for spare in sorted(self._idle, key=lambda spare: spare.generation)[: max(0, len(self._idle) - most)]:
            self._idle.remove(spare)
            spare.let_go()

    def private_bytes(self) -> int:
        return sum(spare.private_bytes() for spare in self._idle)

    def _died(self, spare: Spare) -> None:
        """An idle one says nothing: its channel is readable because it is gone."""
        log.warning("the spare child %d is gone", spare.pid)
        self._idle.remove(spare)
        spare.let_go()
        self._on_death()
