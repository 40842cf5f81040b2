"""``python -m gateway.workers``: the master of several workers that answer on one port.

It owns a listening socket for each of them and never touches a connection: callers of a worker that has died wait in
its socket, here, until its successor takes over. It loads next to nothing, so that it is small and has nothing to die
of. A worker is ``python -m MODULE WORDS... --fd K --line L --worker I --workers N --peers DIR``: ``K`` is its listening
socket (``--also-fd`` one more, where ``--also`` names a second address). On ``L`` it says that it answers, and sees the
master's end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gateway.listening import listen_together
from gateway.posts import Post

READY = b"r"
# The workers of a master that was killed leave the port as soon as they notice.
PORT_PATIENCE_S = 2.0
_STOP = (signal.SIGTERM, signal.SIGINT)
_SIGNALS = (*_STOP, signal.SIGHUP, signal.SIGCHLD)


class Master:
    """``listeners``: those of each worker. ``command`` makes its words from its number, its sockets and its line."""

    def __init__(
        self,
        listeners: Sequence[Sequence[socket.socket]],
        command: Callable[[int, Sequence[int], int], Sequence[str]],
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._listeners = list(listeners)
        self._command = command
        self._on_ready = on_ready
        self._posts = [Post(index) for index in range(len(listeners))]
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._lines: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._announced = False
        self._stopping = False
        self._status = 0

    def run(self) -> int:
        """Until SIGTERM or SIGINT, and all workers have ended. The exit status: that of a first start that failed."""
        with self._signals() as wakeups:
            self._selector.register(wakeups, selectors.EVENT_READ, None)
            while self._running or not self._stopping:
                for post in self._posts:
                    if not self._stopping and post.is_due(time.monotonic()):
                        self._start(post)
                for key, _ in self._selector.select(self._until_due_s()):
                    if key.data is None:
                        self._on_signals(wakeups.recv(4096))
                    else:
                        self._on_line(key.data, key.fileobj)
        return self._status

    @contextlib.contextmanager
    def _signals(self) -> Iterator[socket.socket]:
        """A socket on which the numbers of signals arrive."""
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        before = {signum: signal.signal(signum, lambda *_: None) for signum in _SIGNALS}
        signal.set_wakeup_fd(far.fileno(), warn_on_full_buffer=False)
        try:
            yield near
        finally:
            signal.set_wakeup_fd(-1)
            for signum, handler in before.items():
                signal.signal(signum, handler)
            near.close()
            far.close()

    def _until_due_s(self) -> float | None:
        due = [post.due_s for post in self._posts if post.due_s is not None]
        return None if self._stopping or not due else max(0.0, min(due) - time.monotonic())

    def _start(self, post: Post) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        listening = [listener.fileno() for listener in self._listeners[post.index]]
        words = self._command(post.index, listening, theirs.fileno())
        with theirs:
            # A group of its own: Ctrl-C in a terminal is for the master, which passes it on once.
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, pass_fds=(*listening, theirs.fileno()), process_group=0
            )
        self._running[post.index] = process
        self._lines[post.index] = ours
        self._selector.register(ours, selectors.EVENT_READ, post)
        post.started(process.pid, time.monotonic())

    def _on_line(self, post: Post, ready: object) -> None:
        """It answers now, or its line has ended; then the process's own end is what counts."""
        line = self._lines.get(post.index)
        if line is None or line is not ready:
            return  # the news of its process's end came in the same moment, and was heard first
        if line.recv(16):
            post.answers()
            if all(each.ready for each in self._posts) and not self._announced:
                self._announced = True
                self._on_ready()
        else:
            self._selector.unregister(line)

    def _on_signals(self, numbers: bytes) -> None:
        for signum in numbers:
            if signum in _STOP:
                self._stop()
            elif signum == signal.SIGHUP:
                self._tell(signal.SIGHUP)
        # Whatever woke us: signals may be merged, ends may not be missed.
        for post in self._posts:
            process = self._running.get(post.index)
            if process is not None and process.poll() is not None:
                self._ended(post, process)

    def _stop(self) -> None:
        """The workers hold the sockets as well: each takes in who already waits there, then lets go of it."""
        self._stopping = True
        for listeners in self._listeners:
            for listener in listeners:
                listener.close()
        self._tell(signal.SIGTERM)

    def _tell(self, signum: signal.Signals) -> None:
        for process in self._running.values():
            process.send_signal(signum)

    def _ended(self, post: Post, process: subprocess.Popen[bytes]) -> None:
        del self._running[post.index]
        line = self._lines.pop(post.index)
        with contextlib.suppress(KeyError):
            self._selector.unregister(line)
        line.close()
        status = process.returncode
        if self._stopping:
            return
        wait_s = post.ended(time.monotonic())
        if not post.ever_ready:
            # A first start that fails would fail again: wrong arguments, a package that is missing.
            say("a worker could not be started", worker=post.index, status=status)
            self._status = status if status > 0 else 1
            self._stop()
        else:
            say("a worker has died; starting it again", worker=post.index, status=status, wait_s=wait_s)


def say(event: str, **facts: object) -> None:
    """A line of the log, in the form of the workers' lines."""
    if sys.stderr.isatty():
        shown = " ".join(f"{name}={value}" for name, value in facts.items())
        text = f"{event} {shown}"
    else:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        text = json.dumps({**facts, "event": event, "level": "info", "logger": "gateway.workers", "timestamp": stamp})
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def write_ready(path: Path, port: int) -> None:
    """Whole or not at all: whoever waits for the file never reads half of it."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(f"{port}\n")
    partial.replace(path)


def run(
    module: str,
    words: Sequence[str],
    *,
    workers: int,
    host: str,
    port: int,
    ready_file: Path | None = None,
    peers: Path | None = None,
    also: tuple[str, int] | None = None,
) -> int:
    """``workers`` processes of ``module`` until SIGTERM or SIGINT; the exit status, 1 when the port cannot be had.

    ``ready_file`` gets the port once all of them answer. ``peers``: the folder in which they find each other.
    """
    addresses = [(host, port)] if also is None else [(host, port), also]
    by_address: list[list[socket.socket]] = []
    for at, number in addresses:
        try:
            by_address.append(listen_together(at, number, workers, PORT_PATIENCE_S))
        except OSError as refused:
            sys.stderr.write(f"cannot listen on {at} port {number}: {refused.strerror or refused}\n")
            return 1
    listeners = list(zip(*by_address, strict=True))
    chosen = listeners[0][0].getsockname()[1]
    folder = _fresh(peers)

    def command(index: int, listening: Sequence[int], line: int) -> Sequence[str]:
        sockets = [word for pair in zip(("--fd", "--also-fd"), listening, strict=False) for word in pair]
        seat = ("--line", line, "--worker", index, "--workers", workers, "--peers", folder)
        return [sys.executable, "-m", module, *words, *map(str, (*sockets, *seat))]

    def on_ready() -> None:
        say("listening", host=host, port=chosen, pid=os.getpid(), workers=workers)
        if ready_file is not None:
            write_ready(ready_file, chosen)

    try:
        return Master(listeners, command, on_ready).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fresh(folder: Path | None) -> Path:
    """Empty and private: what it held belonged to workers that are gone."""
    if folder is None:
        return Path(tempfile.mkdtemp(prefix="rh-"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    return folder


def address(text: str) -> tuple[str, int]:
    """``127.0.0.1:8001`` or ``[::1]:8001``."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m gateway.workers", description="Several workers on one port.")
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ready-file", type=Path)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--also", type=address, metavar="HOST:PORT")
    parser.add_argument("module")
    parser.add_argument("words", nargs=argparse.REMAINDER)
    given = parser.parse_args(argv)
    return run(**vars(given))


if __name__ == "__main__":
    sys.exit(main())
