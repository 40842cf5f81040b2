"""The launcher, one per node: imports and warms every runtime once, then forks an engine per order.

``python -m models.runtimes.launcher --socket PATH --scratch DIR [--runtimes vllm,torch] [--lease SECONDS]``

One thread runs one loop over sockets and child processes (pidfds). It never touches CUDA, Ray or gRPC: its children
inherit everything that it has. Engines live under leases of their own and go on when it ends.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import logging
import os
import selectors
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from models.runtimes import wire
from models.runtimes.exits import ExitRecords, exit_report
from models.runtimes.host import become
from models.runtimes.logs import log_to_stderr
from models.runtimes.proc import is_ending, rss_bytes
from models.runtimes.protocol import EngineOrder, EngineStatus, LauncherStatus, Refusal, Runtime
from models.runtimes.sockets import bind_private, remove
from models.runtimes.warming import Warmer

BACKLOG = 256
MOST_WAITING_ORDERS = 256
READ_BYTES = 65536

ENVIRONMENT = {
    # Spinning OpenMP threads of one engine starve all others; libgomp reads this when torch is imported.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Asking whether there is a GPU must not initialize CUDA, which no forked child survives.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}
# What libraries would otherwise keep in the home folder or in /tmp, below the scratch folder.
CACHES = {"VLLM_CACHE_ROOT": "vllm", "TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}

log = logging.getLogger("roundhouse.launcher")


class AlreadyRunning(Exception):
    """Another launcher holds the socket."""


@dataclass
class Peer:
    """Somebody who is connected; ``pending`` is the line that has not ended yet."""

    connection: socket.socket
    pending: bytearray = field(default_factory=bytearray)

    def next_line(self) -> bytes | None:
        """A whole line, b"" when the peer hung up, None when there is none yet. Raises ValueError for an endless one.

        Takes nothing beyond the line: what follows an order belongs to the child.
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


@dataclass(frozen=True)
class Ordered:
    """An order, who sent it, and when it was read (monotonic seconds)."""

    order: EngineOrder
    peer: Peer
    received_s: float


@dataclass(frozen=True)
class Child:
    pid: int
    pidfd: int
    order: EngineOrder


class Launcher:
    """Accepts orders on one socket for as long as it is asked to, or, with a lease, for as long as anybody asks."""

    def __init__(self, socket_path: str, scratch: Path, runtimes: tuple[str, ...], lease_s: float = 0.0) -> None:
        """Binds the socket at once. Raises AlreadyRunning, OSError. ``lease_s`` 0: no lease."""
        self._socket_path = socket_path
        self._lease_s = lease_s
        self._heard_s = time.monotonic()
        self._lock = _lock(socket_path)
        self._selector = selectors.DefaultSelector()
        self._listener = bind_private(socket_path)
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        self._bell, self._bell_end = socket.socketpair()
        self._bell.setblocking(False)
        self._bell_end.setblocking(False)
        self._peers: dict[int, Peer] = {}
        self._children: dict[int, Child] = {}
        self._waiting: list[Ordered] = []
        self._records = ExitRecords()
        self._started = 0
        self._ready = False
        self._warmed = False  # set by the warmer's thread
        self._quit: str | None = None
        self._warmer = Warmer(runtimes, scratch, self._on_warmed)

    def run(self) -> None:
        """Serve until SIGTERM, ``quit`` or the end of the lease; the engines go on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _frame: self._leave(f"signal {number}"))
        signal.set_wakeup_fd(self._bell_end.fileno(), warn_on_full_buffer=False)
        self._watch(self._listener, self._accept)
        self._watch(self._bell, self._ring)
        self._warmer.start()
        log.info("listening on %s, warming", self._socket_path)
        while self._quit is None:
            for key, _ in self._selector.select(self._patience_s()):
                key.data()
            if self._lease_s and time.monotonic() - self._heard_s > self._lease_s:
                self._leave(f"nobody asked for {self._lease_s:g} s")
        log.info("ending (%s); %d engines go on", self._quit, len(self._children))
        remove(self._socket_path)

    def _patience_s(self) -> float | None:
        return max(0.0, self._lease_s - (time.monotonic() - self._heard_s)) if self._lease_s else None

    def _leave(self, why: str) -> None:
        self._quit = self._quit or why

    def _watch(self, what: socket.socket | int, action: Callable[[], None]) -> None:
        self._selector.register(what, selectors.EVENT_READ, action)

    def _on_warmed(self) -> None:
        self._warmed = True
        with contextlib.suppress(BlockingIOError):
            self._bell_end.send(b"w")

    def _ring(self) -> None:
        """A signal came or warming is done."""
        with contextlib.suppress(BlockingIOError):
            self._bell.recv(READ_BYTES)
        if self._warmed and not self._ready:
            self._warmer.finish()
            self._ready = True
            log.info("ready after %.1f s (%d MiB)", self._warmer.warm_s, rss_bytes() >> 20)
            waiting, self._waiting = self._waiting, []
            for ordered in waiting:
                self._start(ordered)

    # Peers

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it is gone already
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            peer = self._peers[connection.fileno()] = Peer(connection)
            self._watch(connection, lambda: self._read(peer))

    def _read(self, peer: Peer) -> None:
        self._heard_s = time.monotonic()
        try:
            line = peer.next_line()
            if line:
                peer.pending.clear()
                self._obey(wire.decode_launcher(line), peer)
            elif line is not None:
                self._drop(peer)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(peer)
        except (msgspec.DecodeError, ValueError) as problem:  # ValidationError is a DecodeError
            peer.say(Refusal(refused=f"not an order: {problem}"))
            self._drop(peer)

    def _obey(self, request: wire.LauncherRequest, peer: Peer) -> None:
        if request.op == "ping":
            peer.say(self._status())
        elif request.op == "quit":
            self._leave("it was told to")
        elif request.order is None:
            peer.say(Refusal(refused="not an order: `order` is missing"))
            self._drop(peer)
        else:
            self._release(peer)
            self._take(Ordered(request.order, peer, time.monotonic()))

    def _status(self) -> LauncherStatus:
        return LauncherStatus(
            pid=os.getpid(),
            ready=self._ready,
            runtimes=dict(self._warmer.states),
            started=self._started,
            rss_bytes=rss_bytes(),
            warm_s=self._warmer.warm_s,
        )

    def _release(self, peer: Peer) -> None:
        self._selector.unregister(peer.connection)
        del self._peers[peer.connection.fileno()]

    def _drop(self, peer: Peer) -> None:
        self._release(peer)
        peer.connection.close()

    # Orders

    def _take(self, ordered: Ordered) -> None:
        if self._ready:
            self._start(ordered)
        elif len(self._waiting) < MOST_WAITING_ORDERS:
            self._waiting.append(ordered)
        else:
            self._decline(ordered, f"the launcher is still warming and {MOST_WAITING_ORDERS} orders wait already")

    def _start(self, ordered: Ordered) -> None:
        if ordered.peer.hung_up():
            log.info("%s is wanted no more", ordered.order.replica_id)
            ordered.peer.connection.close()
            return
        runtime = self._warmer.runtime(ordered.order.runtime)
        if isinstance(runtime, str):
            self._decline(ordered, runtime)
        elif self._is_running(ordered.order.control_path):
            self._decline(ordered, f"replica {ordered.order.replica_id} is running already")
        else:
            self._fork(ordered, runtime)

    def _is_running(self, control_path: str) -> bool:
        children = [child for child in self._children.values() if child.order.control_path == control_path]
        for child in children:
            if is_ending(child.pid):
                self._reap(child)
        return any(child.pid in self._children for child in children)

    def _decline(self, ordered: Ordered, why: str) -> None:
        log.warning("%s: %s", ordered.order.replica_id, why)
        ordered.peer.say(EngineStatus(state="failed", pid=0, order=ordered.order, error=why))
        ordered.peer.connection.close()

    def _fork(self, ordered: Ordered, runtime: Runtime) -> None:
        try:
            with warnings.catch_warnings():
                # Python warns of forking with threads about; ours are idle workers of libraries.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
        except OSError as problem:
            self._decline(ordered, f"the launcher cannot fork: {problem.strerror}")
            return
        if pid == 0:
            self._forget_everything()
            become(ordered.order, runtime, ordered.peer.connection, ordered.received_s)
        self._started += 1
        pidfd = os.pidfd_open(pid)
        child = self._children[pid] = Child(pid, pidfd, ordered.order)
        self._watch(pidfd, lambda: self._reap(child))
        ordered.peer.connection.close()
        log.info("%s: forked %d for %s", ordered.order.replica_id, pid, ordered.order.model_id)

    def _forget_everything(self) -> None:
        """In the child: nothing of the launcher's may stay open, or its sockets would outlive it."""
        self._selector.close()
        for owned in (self._listener, self._bell, self._bell_end, *(peer.connection for peer in self._peers.values())):
            owned.close()
        for waiting in self._waiting:
            waiting.peer.connection.close()
        for child in self._children.values():
            os.close(child.pidfd)
        os.close(self._lock)

    def _reap(self, child: Child) -> None:
        """Waits for a child that is ending; nothing happens when this was done before."""
        if child.pid not in self._children:
            return
        _, wait_status = os.waitpid(child.pid, 0)
        self._selector.unregister(child.pidfd)
        os.close(child.pidfd)
        del self._children[child.pid]
        report = exit_report(child.pid, child.order, wait_status)
        self._records.write(child.order.control_path, report)
        log.info("%s: %s", child.order.replica_id, report.reason())


def _lock(socket_path: str) -> int:
    """Hold ``socket_path`` for as long as this process lives; forked children do not inherit a POSIX lock."""
    Path(socket_path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = os.open(socket_path + ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        owner = os.pread(held, 20, 0).decode().strip()
        os.close(held)
        raise AlreadyRunning(f"a launcher (pid {owner}) listens on {socket_path} already") from problem
    os.ftruncate(held, 0)
    os.pwrite(held, f"{os.getpid()}\n".encode(), 0)
    return held


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.runtimes.launcher", description="Forks engines to order.")
    parser.add_argument("--socket", required=True, metavar="PATH", help="unix socket to listen on")
    parser.add_argument(
        "--scratch", required=True, type=Path, metavar="DIR", help="folder for caches and the warm model"
    )
    parser.add_argument(
        "--runtimes",
        default="vllm,torch",
        metavar="LIST",
        help="names, or package.module:factory (default: %(default)s)",
    )
    parser.add_argument(
        "--lease",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="end after so long without a line from anybody (0: never)",
    )
    return parser.parse_args()


def main() -> None:
    arguments = _arguments()
    log_to_stderr("%(name)s: %(message)s")
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    runtimes = tuple(name for name in arguments.runtimes.split(",") if name)
    arguments.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    for key, folder in CACHES.items():
        os.environ.setdefault(key, str(arguments.scratch.resolve() / folder))
    code = 0
    try:
        Launcher(arguments.socket, arguments.scratch.resolve(), runtimes, arguments.lease).run()
    except (AlreadyRunning, OSError) as problem:
        log.error("%s", problem)
        code = 1
    sys.stderr.flush()
    os._exit(code)  # at once, also when the warmer is in the middle of an import


if __name__ == "__main__":
    main()
