"""The launcher's side of one zygote: starts it, hears what it says, knows how old it is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from models.runtimes.launcher import zygote_wire
from models.runtimes.launcher.ageing import Age
from models.runtimes.launcher.recipe import Recipe
from models.runtimes.launcher.zygote_wire import Forked, FromZygote, NotForked, Warm, Warming
from models.runtimes.proc import rss_bytes

log = logging.getLogger("roundhouse.launcher")

STACKS_PAUSE_S = 0.3  # until the stacks of a hanging one are in the log

Hear = Callable[["Generation", FromZygote, socket.socket | None], None]


@dataclass(eq=False)
class Generation:
    """The ``number``-th zygote of this launcher. ``outstanding``: children asked for that have not come yet."""

    number: int
    recipe: Recipe
    scratch: Path
    hear: Hear
    board: int  # of cores, a file descriptor
    outstanding: int = 0
    forks: int = 0
    warm: Warm | None = None
    doing: Warming | None = None  # the latest that it said before it was warm
    _began_s: float = field(default_factory=time.monotonic)
    _warm_rss_bytes: int = 0
    _waiting_since_s: float = 0.0
    _kill_later: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Raises OSError."""
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.setblocking(False)
        command = [sys.executable, "-m", "models.runtimes.launcher.zygote", "--channel", str(theirs.fileno())]
        command += ["--launcher", str(os.getpid()), "--scratch", str(self.scratch)]
        command += ["--recipe", msgspec.json.encode(self.recipe).decode()]
        command += ["--cores", str(self.board)]
        with theirs:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno(), self.board])
        asyncio.get_running_loop().add_reader(self._channel, self._read)

    @property
    def pid(self) -> int:
        return self._process.pid

    def fork(self) -> None:
        """Ask for one more child; it comes with a Forked message."""
        if not self.outstanding:
            self._waiting_since_s = time.monotonic()
        self.outstanding += 1
        with contextlib.suppress(OSError):  # it is gone, which is noticed elsewhere
            zygote_wire.send(self._channel, zygote_wire.Fork())

    def stuck_s(self) -> float:
        """How long it has left a wish unanswered."""
        return time.monotonic() - self._waiting_since_s if self.outstanding else 0.0

    def age(self) -> Age:
        return Age(
            rss_bytes=rss_bytes(self.pid),
            warm_rss_bytes=self._warm_rss_bytes,
            forks=self.forks,
            age_s=time.monotonic() - self._began_s,
        )

    def dismiss(self) -> None:
        """Let it end; what it still has to say is heard."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """It hangs: have it write down where, then end it."""
        if self._kill_later is None:
            os.kill(self.pid, signal.SIGUSR1)
            loop = asyncio.get_running_loop()
            self._kill_later = loop.call_later(STACKS_PAUSE_S, os.kill, self.pid, signal.SIGKILL)

    def ended(self, code: int) -> None:
        """Its process was waited for: hear its last words and forget it."""
        self._process.returncode = code
        if self._kill_later is not None:
            self._kill_later.cancel()
        self._read()
        self._close()

    def _close(self) -> None:
        if self._channel.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._channel)
            self._channel.close()

    def _read(self) -> None:
        """All that has come so far."""
        while self._channel.fileno() >= 0:
            try:
                heard = zygote_wire.receive(self._channel)
            except BlockingIOError:
                return
            except OSError:
                heard = None
            if heard is None:
                self._close()
                return
            self._note(heard[0])
            self.hear(self, *heard)

    def _note(self, message: FromZygote) -> None:
        match message:
            case Warming():
                self.doing = message
            case Warm():
                self.warm = message
                self._warm_rss_bytes = rss_bytes(self.pid)
            case Forked() | NotForked():
                self.forks += isinstance(message, Forked)
                self.outstanding -= 1
                self._waiting_since_s = time.monotonic()
