"""How far imports are: written down while they run, for everybody on this node to read."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from models.weights.paths import StorePaths
from models.weights.processes import is_alive
from models.weights.records import Phase, Progress, load, save

EVERY_S = 0.25
RATE_OVER_S = 3.0
OnProgress = Callable[[Progress], None]


class Meter:
    """Counts what arrives, from any thread; tells of it at most every EVERY_S, and of each phase at once."""

    def __init__(
        self,
        paths: StorePaths,
        source: str,
        *,
        tell: OnProgress = lambda progress: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = paths.progress_of(source)
        self._tell = tell
        self._clock = clock
        self._lock = threading.Lock()
        self._now = Progress(source=source, phase="listing", pid=os.getpid(), updated_unix_s=clock())
        self._told_s = float("-inf")
        self._rate_since = (clock(), 0)  # when, and how much had arrived by then
        self._arrived = 0

    @property
    def progress(self) -> Progress:
        return self._now

    def phase(self, phase: Phase, error: str | None = None) -> None:
        with self._lock:
            self._now = msgspec.structs.replace(self._now, phase=phase, error=error)
            self._write()

    def begin(self, bytes_total: int, files_total: int, resumed_bytes: int, files_done: int) -> None:
        with self._lock:
            self._now = msgspec.structs.replace(
                self._now,
                phase="downloading",
                bytes_total=bytes_total,
                files_total=files_total,
                bytes_done=resumed_bytes,
                resumed_bytes=resumed_bytes,
                files_done=files_done,
            )
            self._write()

    def add(self, count: int) -> None:
        """``count`` is below zero when bytes have to be fetched again."""
        with self._lock:
            self._arrived += max(count, 0)
            self._now = msgspec.structs.replace(self._now, bytes_done=self._now.bytes_done + count)
            if self._clock() - self._told_s >= EVERY_S:
                self._write()

    def file_done(self) -> None:
        with self._lock:
            self._now = msgspec.structs.replace(self._now, files_done=self._now.files_done + 1)
            self._write()

    def follow(self, other: Progress) -> None:
        """Somebody else fetches the same: show theirs."""
        self._tell(msgspec.structs.replace(other, phase="waiting"))

    def close(self) -> None:
        """It is over; what was written down of it goes, unless it failed."""
        if self._now.phase != "failed":
            self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        now = self._clock()
        since, had = self._rate_since
        if now - since >= RATE_OVER_S:
            self._rate_since = (now, self._arrived)
        rate = (self._arrived - had) / (now - since) if now > since else self._now.bytes_per_s
        self._now = msgspec.structs.replace(self._now, bytes_per_s=rate, updated_unix_s=now)
        self._told_s = now
        with contextlib.suppress(OSError):  # a full disk shows in the download itself
            save(self._path, self._now)
        self._tell(self._now)


def read_progress(path: Path) -> Progress | None:
    """None when there is none; one whose process is gone has failed, and goes on with the next attempt."""
    found = load(path, Progress)
    if found is None or found.phase in ("failed", "done") or is_alive(found.pid):
        return found
    return msgspec.structs.replace(
        found, phase="failed", error="it was interrupted; the next attempt goes on from there"
    )
