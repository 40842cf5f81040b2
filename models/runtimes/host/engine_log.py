"""An engine's log file, as its process writes it: one per replica, bounded, and saying of itself whose it is.

Python, C libraries and the crash handler all write to descriptors 1 and 2; the file behind these is changed under their
feet when it is full (``<name>.log`` becomes ``<name>.log.1``), so what a dying process writes last is never in a pipe.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from models.runtimes.protocol import EngineOrder

FULL_BYTES = 8 << 20  # of each of the two files
LOOK_EVERY_S = 1.0
KEPT_LOGS = 200
KEPT_FOR_S = 14 * 86_400.0
SUFFIX = ".log"
OLDER = ".1"
HEAD_MARK = b"#{"
LONGEST_HEAD_BYTES = 4096
# On this signal the Python stacks of all threads go to the log.
STACKS_SIGNAL = signal.SIGUSR2

_OUTPUTS = (1, 2)


class LogHead(msgspec.Struct, frozen=True, kw_only=True):
    """First line of each file: ``#`` and this as JSON."""

    replica_id: str
    model_id: str
    runtime: str
    pid: int
    started_unix_s: float

    def line(self) -> bytes:
        return b"#" + msgspec.json.encode(self) + b"\n"


def read_head(path: Path) -> LogHead | None:
    """Whose log it is; None when it is gone or no engine's."""
    try:
        with path.open("rb") as log:
            line = log.readline(LONGEST_HEAD_BYTES)
    except OSError:
        return None
    if not line.startswith(HEAD_MARK):
        return None
    try:
        return msgspec.json.decode(line[1:], type=LogHead)
    except msgspec.DecodeError:
        return None


class EngineLog:
    """Descriptors 1 and 2 of this process, as a file that does not grow for ever."""

    def __init__(
        self, order: EngineOrder, *, full_bytes: int = FULL_BYTES, started_unix_s: float | None = None
    ) -> None:
        """Nothing is touched before ``take``."""
        self._path = Path(order.log_path)
        self._full_bytes = full_bytes
        self._head = LogHead(
            replica_id=order.replica_id,
            model_id=order.model_id,
            runtime=order.runtime,
            pid=os.getpid(),
            started_unix_s=time.time() if started_unix_s is None else started_unix_s,
        )

    def take(self, outputs: Iterable[int] = _OUTPUTS) -> None:
        """Send ``outputs`` to the file from now on. Raises OSError."""
        self._outputs = tuple(outputs)
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._point()

    def keep_bounded(self) -> None:
        """Look after its size from a thread of its own, which goes on when the event loop hangs."""
        threading.Thread(target=self._look_after, name="log-keeper", daemon=True).start()

    def turn_over(self) -> bool:
        """Begin a new file when this one is full; whether it was. The one before the last is dropped."""
        try:
            size = os.fstat(self._outputs[0]).st_size
            if size < self._full_bytes:
                return False
            os.replace(self._path, str(self._path) + OLDER)
        except OSError:  # the folder is gone: what is written goes where nobody looks, which harms nobody
            return False
        with contextlib.suppress(OSError):
            self._point()
        return True

    def _point(self) -> None:
        opened = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            # Held for as long as anybody writes to the file: ``prune`` leaves it alone.
            fcntl.flock(opened, fcntl.LOCK_SH)
            if os.fstat(opened).st_size == 0:
                os.write(opened, self._head.line())
            for output in self._outputs:
                os.dup2(opened, output)
        finally:
            os.close(opened)

    def _look_after(self) -> None:
        while True:
            time.sleep(LOOK_EVERY_S)
            self.turn_over()


def explain_crashes() -> None:
    """Have the Python stacks of all threads written to the log by a crash, and on STACKS_SIGNAL.

    May be called again: libraries that are loaded meanwhile put handlers of their own in the place of these.
    """
    faulthandler.disable()  # enabling what is enabled changes nothing
    faulthandler.enable(file=2, all_threads=True)
    faulthandler.register(STACKS_SIGNAL, file=2, all_threads=True)


def prune(folder: Path, now_unix_s: float, *, keep: int = KEPT_LOGS, keep_s: float = KEPT_FOR_S) -> int:
    """Delete logs of engines that have ended: all but the newest ``keep``, and those older than ``keep_s``.

    How many were deleted. Costs one look into the folder while there are no more than ``keep`` files in it.
    """
    aged: list[tuple[float, Path]] = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(SUFFIX):
                with contextlib.suppress(FileNotFoundError):
                    aged.append((entry.stat().st_mtime, Path(entry.path)))
    aged.sort(reverse=True)
    gone = [path for place, (age, path) in enumerate(aged) if place >= keep or now_unix_s - age > keep_s]
    return sum(_delete_unused(path) for path in gone)


def _delete_unused(path: Path) -> bool:
    try:
        with path.open("rb") as log:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except OSError:  # in use, or gone already
        return False
    with contextlib.suppress(OSError):
        Path(str(path) + OLDER).unlink()
    return True
