"""The warm process: imports and warms every runtime once, then forks a child whenever the launcher wants one.

``python -m models.runtimes.launcher.zygote --channel FD --scratch DIR --recipe JSON``; the launcher starts it.

One thread runs one loop over the launcher's channel and its children's pidfds. It never touches CUDA, Ray or gRPC: its
children inherit everything that it has. When the launcher is gone it ends at once; the children go on.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import faulthandler
import os
import selectors
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import msgspec

from models.runtimes.cores import board
from models.runtimes.launcher.recipe import Recipe
from models.runtimes.launcher.spare import wait_and_become
from models.runtimes.launcher.warming import Warmer
from models.runtimes.launcher.zygote_wire import LONGEST_BYTES, Broken, Ended, Forked, FromZygote, NotForked, Warm, send
from models.runtimes.logs import log_to_stderr

PR_SET_PDEATHSIG = 1
# The launcher sends it to one that hangs, so that its log says where.
STACKS_SIGNAL = signal.SIGUSR1

ENVIRONMENT = {
    # Spinning OpenMP threads of one engine starve all others; libgomp reads this when torch is imported.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Asking whether there is a GPU must not initialize CUDA, which no forked child survives.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}
# What libraries would otherwise keep in the home folder or in /tmp, below the scratch folder.
CACHES = {"VLLM_CACHE_ROOT": "vllm", "TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}


class Zygote:
    """Serves the launcher at the other end of ``channel``."""

    def __init__(self, channel: socket.socket, scratch: Path, recipe: Recipe) -> None:
        self._channel = channel
        self._selector = selectors.DefaultSelector()
        self._pidfds: dict[int, int] = {}  # of the children
        self._bell, self._bell_end = socket.socketpair()
        self._warmer = Warmer(recipe, scratch, self._tell)

    def run(self) -> NoReturn:
        self._watch(self._channel, self._obey)
        self._watch(self._bell, self._warmed)
        self._warmer.start()
        while True:
            for key, _ in self._selector.select():
                key.data()

    def _watch(self, what: socket.socket | int, action: Callable[[], None]) -> None:
        self._selector.register(what, selectors.EVENT_READ, action)

    def _tell(self, message: FromZygote, carried: socket.socket | None = None) -> None:
        """From both threads: a message is one packet."""
        if isinstance(message, Warm):
            self._last = message  # told once forking is safe
            self._bell_end.send(b"w")
            return
        try:
            send(self._channel, message, carried)
        except OSError:
            os._exit(0)  # the launcher is gone
        if isinstance(message, Broken):
            sys.stderr.flush()
            os._exit(1)

    def _warmed(self) -> None:
        self._selector.unregister(self._bell)
        self._bell.close()
        self._bell_end.close()
        self._warmer.finish()
        with contextlib.suppress(OSError):
            send(self._channel, self._last)

    def _obey(self) -> None:
        """A wish for a child, which is all that the launcher ever has, or its end."""
        try:
            gone = not self._channel.recv(LONGEST_BYTES)
        except OSError:
            gone = True
        if gone:
            os._exit(0)
        self._fork()

    def _fork(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            try:
                with warnings.catch_warnings():
                    # Python warns of forking with threads about; ours are idle workers of libraries.
                    warnings.simplefilter("ignore", DeprecationWarning)
                    pid = os.fork()
            except OSError as problem:
                self._tell(NotForked(f"the launcher cannot fork: {problem.strerror}"))
                return
            if pid == 0:
                self._become_spare(ours, theirs)
            pidfd = self._pidfds[pid] = os.pidfd_open(pid)
            self._watch(pidfd, lambda: self._reap(pid))
            self._tell(Forked(pid), ours)

    def _become_spare(self, launchers: socket.socket, channel: socket.socket) -> NoReturn:
        """In the child: nothing of the zygote's may stay open, or it would outlive it."""
        launchers.close()
        self._channel.close()
        self._selector.close()
        for pidfd in self._pidfds.values():
            os.close(pidfd)
        wait_and_become(channel, self._warmer.runtimes)

    def _reap(self, pid: int) -> None:
        _, wait_status = os.waitpid(pid, 0)
        pidfd = self._pidfds.pop(pid)
        self._selector.unregister(pidfd)
        os.close(pidfd)
        self._tell(Ended(pid, wait_status))


def _die_with(launcher: int) -> None:
    """Also in the middle of an import that never returns, when nothing here notices that the launcher is gone."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != launcher:
        os._exit(0)


def main() -> NoReturn:
    parser = argparse.ArgumentParser(
        prog="python -m models.runtimes.launcher.zygote", description="Forks for the launcher."
    )
    parser.add_argument("--channel", required=True, type=int, metavar="FD")
    parser.add_argument("--launcher", required=True, type=int, metavar="PID")
    parser.add_argument("--scratch", required=True, type=Path, metavar="DIR")
    parser.add_argument("--cores", required=True, type=int, metavar="FD", help="the board on which engines share them")
    parser.add_argument("--recipe", required=True, metavar="JSON")
    arguments = parser.parse_args()
    _die_with(arguments.launcher)
    faulthandler.enable()
    faulthandler.register(STACKS_SIGNAL, all_threads=True)
    for number in (signal.SIGINT, signal.SIGHUP):  # meant for the launcher
        signal.signal(number, signal.SIG_IGN)
    log_to_stderr("%(asctime)s %(name)s: %(message)s")
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    for key, folder in CACHES.items():
        os.environ.setdefault(key, str(arguments.scratch / folder))
    board.join(arguments.cores)
    os.close(arguments.cores)
    channel = socket.socket(fileno=arguments.channel)
    channel.set_inheritable(False)
    Zygote(channel, arguments.scratch, msgspec.json.decode(arguments.recipe, type=Recipe)).run()


if __name__ == "__main__":
    main()
